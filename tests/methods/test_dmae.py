"""DMAE: the invariants of its two losses, what its teacher costs, and errors before a compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.options import TEACHER

BATCH = tiny.batch(6)
NUM_VISIBLE = 4  # of 16, at 75 %
SIZES = ("dim=24", "depth=3", "heads=3", "mlp_hidden=32", "patch_size=2")
LARGE = {**TEACHER, "blocks": 2, "change": SIZES}
MODEL = {**tiny.MODEL, "teacher": LARGE, "student_blocks": (1,)}


def build(**model):
    return build_method("distill.dmae", {**MODEL, **model}, BATCH)


def trees(method):
    """Parameters and teacher with no value at 0 or 1."""
    params, extra = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    return tiny.filled(params, 0), tiny.filled(extra, 1)


@pytest.fixture(scope="module")
def dmae():
    return build()


@pytest.fixture(scope="module")
def state(dmae):
    return trees(dmae)


def draws():
    return Draws.keyed(jax.random.key(0), BATCH["position"])


def terms_of(method, params, extra, image=BATCH["image"], drawn=None):
    given = (params, extra, {"image": image}, drawn or draws(), jnp.int32(0), None)
    found, _ = method.phases[0].fn(*given)
    return {name: losses.total({name: term}) for name, term in found.items()}


@pytest.fixture(scope="module")
def terms(dmae):
    return jax.jit(lambda *given: terms_of(dmae, *given))


@pytest.fixture(scope="module")
def seen(dmae, state):
    run = lambda *given: dmae.predict["activations"](*given, BATCH, draws())  # noqa: E731
    return jax.device_get(jax.jit(run)(*state))


def repainted(cells, value=9):
    """The images with these patches bool[B, 16] in one colour."""
    image = np.array(BATCH["image"])
    image[cells.reshape(6, 4, 4).repeat(2, 1).repeat(2, 2)] = value
    return image


def test_1_and_2_visible_pixels_are_no_target_and_hidden_ones_no_feature(terms, state, seen):
    hidden = seen["hidden"]
    assert (hidden.sum(1) == 16 - NUM_VISIBLE).all()
    one, other = (terms(*state, image) for image in (BATCH["image"], repainted(hidden)))
    assert one["alignment"] == other["alignment"]
    assert one["reconstruction"] != other["reconstruction"]


def test_1_the_pixel_loss_is_the_mean_over_hidden_patches(dmae, state, terms, seen):
    run = lambda *given: dmae.predict["reconstruct"](*given, BATCH, draws())  # noqa: E731
    shown = jax.device_get(jax.jit(run)(*state))
    errors = np.square(shown["prediction"] - shown["target"]).mean(-1)
    expected = errors[seen["hidden"]].mean()
    np.testing.assert_allclose(terms(*state, BATCH["image"])["reconstruction"], expected, rtol=1e-5)


def test_2_by_gradient(dmae, state, seen):
    image = jnp.asarray(BATCH["image"], jnp.float32) / 255
    slope = jax.grad(lambda x: terms_of(dmae, *state, x)["alignment"])
    gradient = np.asarray(jax.jit(slope)(image))
    cells = seen["hidden"].reshape(6, 4, 4).repeat(2, 1).repeat(2, 2)
    assert (gradient[cells] == 0).all()
    assert (gradient[~cells] != 0).any(-1).all()


def test_3_the_scale_of_the_teachers_features_does_not_matter(seen):
    method = build()
    apart = method.phases[0].fn.__self__.apart
    shown, taught = seen["projected"][:, 0], seen["taught"][:, 0]
    np.testing.assert_allclose(apart(shown, 7 * taught), apart(shown, taught), rtol=1e-5)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    expected = np.abs(unit(shown) - unit(taught)).mean(-1)
    np.testing.assert_allclose(apart(shown, taught), expected, rtol=1e-4)


def test_4_no_gradient_reaches_the_teacher_and_heads_learn(dmae, state):
    total = lambda *given: sum(terms_of(dmae, *given).values())  # noqa: E731
    of_params, of_extra = jax.jit(jax.grad(total, (0, 1)))(*state)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_extra))
    assert (of_params["heads"]["layer0"]["kernel"] != 0).any()


def test_5_the_order_of_the_visible_patches_does_not_matter(dmae, state, terms):
    noise = np.random.default_rng(0).uniform(size=(6, 16)).astype(np.float32)
    order = np.argsort(noise, 1)
    swapped = noise.copy()
    first, second = (np.take_along_axis(noise, order[:, i : i + 1], 1) for i in (0, 2))
    np.put_along_axis(swapped, order[:, 0:1], second, 1)
    np.put_along_axis(swapped, order[:, 2:3], first, 1)
    run = jax.jit(lambda noise: terms_of(dmae, *state, drawn=Draws.replay({"mask": noise})))
    one, other = run(noise), run(swapped)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5)


def test_6_a_student_that_is_its_teacher_has_nothing_to_learn():
    """Equal weights, equal blocks, features compared as they are."""
    sizes = tiny.MODEL["encoder"]
    change = tuple(f"{k}={sizes[k]}" for k in ("dim", "depth", "heads"))
    large = {**TEACHER, "blocks": 1, "change": (*change, "mlp_hidden=32", "patch_size=2")}
    same = build(teacher=large, head="none")
    params, extra = trees(same)
    assert "heads" not in params
    encoder = {name: params["encoder"][name] for name in extra["teacher"]["encoder"]}
    encoder["blocks"] = jax.tree.map(lambda leaf: leaf[:1], encoder["blocks"])
    alike = terms_of(same, params, {"teacher": {"encoder": encoder}})["alignment"]
    assert alike < 1e-6 < terms_of(same, params, extra)["alignment"]


def test_reconstruction_is_maes(state, terms):
    params, _ = state
    mae = build_method("mim.mae", {**tiny.MODEL, "norm_pix": False}, BATCH)
    own = {name: params[name] for name in ("encoder", "decoder")}
    found, _ = mae.phases[0].fn(own, {}, BATCH, draws(), jnp.int32(0), None)
    one = terms(*state, BATCH["image"])["reconstruction"]
    np.testing.assert_allclose(one, losses.total(found), rtol=1e-5)


def counted(method):
    """FLOPs of the compiled loss and gradient."""
    state = jax.eval_shape(method.init, jax.random.key(0), BATCH)

    def step(params, extra, image):
        total = lambda params: sum(terms_of(method, params, extra, image).values())  # noqa: E731
        return jax.value_and_grad(total)(params)

    return jax.jit(step).lower(*state, BATCH["image"]).compile().cost_analysis()["flops"]


@pytest.mark.slow
def test_the_compiled_step_holds_the_first_blocks_of_the_teacher_only():
    """A deeper teacher costs nothing, one more block that runs costs that block."""
    wide = ("dim=96", "heads=3", "mlp_hidden=384", "patch_size=2")
    of = lambda depth, blocks: build(  # noqa: E731
        teacher={**TEACHER, "blocks": blocks, "change": (*wide, f"depth={depth}")}
    )
    shallow, deep, further = of(2, 1), of(12, 1), of(12, 2)
    assert counted(deep) == counted(shallow)
    block = (further.step_flops - deep.step_flops) * len(BATCH["image"])
    assert counted(further) - counted(deep) == pytest.approx(block, rel=0.1)


def test_loops_over_layers_change_nothing_and_the_gradient_scatters_nothing(state, terms):
    looped = build(scan="on")
    found = jax.jit(lambda *given: terms_of(looped, *given))(*state)
    for name, value in terms(*state, BATCH["image"]).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    total = lambda *given: sum(terms_of(looped, *given).values())  # noqa: E731
    text = jax.jit(jax.grad(total)).lower(*state).as_text()
    assert "scatter" not in text
    assert text.count("stablehlo.sort") == 1


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 49), (0.95, 9), (0.98, 3)])
def test_high_ratios_keep_what_the_official_code_keeps(ratio, kept):
    batch = tiny.batch(2, size=(28, 28))
    method = build_method("distill.dmae", {**MODEL, "image_size": 28, "mask_ratio": ratio}, batch)
    shapes = jax.eval_shape(
        lambda key: method.predict["activations"](
            *method.init(key, batch), batch, Draws.keyed(key, batch["position"])
        ),
        jax.random.key(0),
    )
    assert shapes["visible_ids"].shape == (2, kept)
    assert shapes["taught"].shape == (2, 1, 1 + kept, 24)


def test_several_blocks_are_a_sum(state):
    both = build(student_blocks=(1, 2), teacher_blocks=(1, 2), head="mlp", distance="l2")
    params, extra = trees(both)
    seen = jax.device_get(both.predict["activations"](params, extra, BATCH, draws()))
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    errors = np.square(unit(seen["projected"]) - unit(seen["taught"])).mean((0, 2, 3))
    found = terms_of(both, params, extra)["alignment"]
    np.testing.assert_allclose(found, errors.sum(), rtol=1e-4)


ERRORS = {
    r"config\.model\.teacher\.blocks = 3: the last one that is needed is 2": {
        "teacher": {**LARGE, "blocks": 3},
        "teacher_blocks": (2,),
    },
    r"config\.model\.teacher\.blocks = 0: the last one that is needed": {
        "teacher": {**LARGE, "blocks": 0}
    },
    r"config\.model\.student_blocks = \(3,\): one or more of 1\.\.2": {"student_blocks": (3,)},
    r"config\.model\.teacher_blocks = \(2, 2\): needs one for each of \(1,\)": {
        "teacher_blocks": (2, 2)
    },
    r"config\.model\.head = 'none': the student is 16 wide, the teacher 24": {"head": "none"},
    r"config\.model\.head = 'conv': one of linear, mlp, none": {"head": "conv"},
    r"config\.model\.distance = 'cosine': l1 or l2": {"distance": "cosine"},
    r"config\.model\.teacher\.name = 'mae_b16': must have a class token": {
        "teacher": {**LARGE, "change": (*SIZES, "cls=false")}
    },
    r"config\.model\.teacher\.name = 'deit_distilled_b16': must have a class token": {
        "teacher": {**LARGE, "name": "deit_distilled_b16"}
    },
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
