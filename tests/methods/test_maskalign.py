"""MaskAlign: the invariants of its mask, its alignment and its loss; errors before a compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.masking import Draws, guided
from maskjax.method import build_method
from maskjax.methods.distill.maskalign import layer_weights
from maskjax.options import TEACHER

BATCH = tiny.batch(6)
NUM_VISIBLE = 4  # of 16: int(16 * (1 - 0.7))
SIZES = ("dim=24", "depth=3", "heads=3", "mlp_hidden=32", "patch_size=2")
MODEL = {
    **{key: tiny.MODEL[key] for key in ("image_size", "patch_size", "encoder")},
    "teacher": {**TEACHER, "blocks": 3, "change": SIZES},
    "fusion": "sum",
    "layer_weights": "top2",
    "drop_path": 0.0,
}


def build(**model):
    return build_method("distill.maskalign", {**MODEL, **model}, BATCH)


def trees(method):
    """Parameters and teacher with no value at 0 or 1."""
    params, extra = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    return tiny.filled(params, 0), tiny.filled(extra, 1)


def inner(method):
    """The object whose functions the method is."""
    return method.phases[0].fn.__self__


@pytest.fixture(scope="module")
def align():
    return build()


@pytest.fixture(scope="module")
def state(align):
    return trees(align)


def draws():
    return Draws.keyed(jax.random.key(0), BATCH["position"])


def loss_of(method, params, extra, image=BATCH["image"]):
    given = (params, extra, {"image": image}, draws(), jnp.int32(0), None)
    return losses.total(method.phases[0].fn(*given)[0])


def seen_of(method, params, extra):
    run = lambda *given: method.predict["activations"](*given, BATCH, draws())  # noqa: E731
    return jax.device_get(jax.jit(run)(params, extra))


@pytest.fixture(scope="module")
def seen(align, state):
    return seen_of(align, *state)


def test_1_hidden_patches_reach_the_loss_through_the_teacher_only(align, state):
    """The teacher gives no gradient, so what is left of one by the image is the student's."""
    image = jnp.asarray(BATCH["image"], jnp.float32) / 255

    def total(image):
        hidden = align.predict["activations"](*state, {"image": image}, draws())["hidden"]
        return loss_of(align, *state, image), hidden

    gradient, hidden = jax.device_get(jax.jit(jax.grad(total, has_aux=True))(image))
    assert (hidden.sum(1) == 16 - NUM_VISIBLE).all()
    cells = hidden.reshape(6, 4, 4).repeat(2, 1).repeat(2, 2)
    assert (gradient[cells] == 0).all()
    assert (gradient[~cells] != 0).any(-1).all()


def test_the_teacher_sees_the_whole_image(align, state, seen):
    """A hidden patch that is painted over changes the targets of visible ones."""
    image = np.array(BATCH["image"])
    image[seen["hidden"].reshape(6, 4, 4).repeat(2, 1).repeat(2, 2)] = 9
    teacher = inner(align).teacher
    run = jax.jit(lambda x: teacher(state[1]["teacher"], teacher.patches(x))[0]["tokens"])
    one, other = (np.asarray(run(x)) for x in (BATCH["image"], image))
    assert (np.abs(one - other)[~seen["hidden"]].max(-1) > 1e-4).all()


def test_2_a_student_that_is_its_teacher_has_nothing_to_learn():
    """Equal weights, nothing hidden, the identity as mixture and as heads."""
    sizes = {**tiny.MODEL["encoder"], "depth": 3}
    change = tuple(f"{k}={sizes[k]}" for k in ("dim", "depth", "heads"))
    large = {**TEACHER, "blocks": 3, "change": (*change, "mlp_hidden=32", "patch_size=2")}
    same = {"encoder": sizes, "teacher": large, "fusion": "linear", "target_norm": "none"}
    method = build(**same, mask_ratio=0.0, layer_weights="mean")
    params, extra = trees(method)
    eye = jnp.broadcast_to(jnp.eye(16), (3, 16, 16))
    heads = {"layer0": {"kernel": eye, "bias": jnp.zeros((3, 16))}}
    encoder = {**params["encoder"], **extra["teacher"]["encoder"]}
    twin = {"encoder": encoder, "mix": jnp.eye(3), "heads": heads}
    loss = jax.jit(lambda params: loss_of(method, params, extra))
    assert loss(twin) < 1e-8 < loss(params)


def sampled(importance, num_images=2000, num_visible=NUM_VISIBLE):
    """How often each patch stays visible, as `MaskAlign.look` draws it."""
    position = tiny.positions(num_images)
    noise = Draws.keyed(jax.random.key(0), position).sample(
        "mask", importance.shape, lambda key: jax.random.exponential(key, importance.shape)
    )
    weights = jnp.broadcast_to(jnp.asarray(importance), noise.shape)
    split = guided.sampled(noise, weights, num_visible=num_visible)
    return 1 - np.asarray(split.hidden()).mean(0)


def test_3_where_the_teacher_looks_stays_visible():
    uniform = sampled(np.ones(16, np.float32))
    np.testing.assert_allclose(uniform, NUM_VISIBLE / 16, atol=4 * np.sqrt(3 / 16 / 2000))
    looked_at = np.where(np.isin(np.arange(16), (2, 5, 11)), 1.0, 1e-5).astype(np.float32)
    assert (sampled(looked_at)[[2, 5, 11]] > 0.99).all()
    twice = np.where(np.arange(16) == 3, 2.0, 1.0).astype(np.float32)
    # A weight, no ranking: likelier than the others, not certain.
    assert 0.3 < sampled(twice)[3] < 0.6


def test_3_the_mask_is_drawn_by_the_last_block_of_the_teacher(align, state, seen):
    expected = seen["attention"][:, :, 0, 1:].mean(1)
    np.testing.assert_allclose(seen["importance"], expected, rtol=1e-6)
    noise = draws().sample("mask", (16,), lambda key: jax.random.exponential(key, (16,)))
    order = np.argsort(np.asarray(noise) / expected, 1)
    np.testing.assert_array_equal(seen["ids"], order)
    plain = build(mask="random")
    assert "attention" not in seen_of(plain, *state)


def test_the_gaze_is_that_of_the_mask(align, state, seen):
    run = jax.jit(lambda *given: align.predict["gaze"](*given, BATCH, draws()))
    found = jax.device_get(run(*state))
    np.testing.assert_array_equal(found["hidden"], seen["hidden"])
    np.testing.assert_allclose(found["importance"], seen["importance"], rtol=1e-5)
    np.testing.assert_allclose(found["original"], BATCH["image"] / 255, atol=1e-5)
    assert "gaze" not in build(mask="random").predict


def test_4_every_block_of_the_student_learns_from_the_weighted_ones(align, state):
    params, extra = state
    gradient, of_extra = jax.jit(jax.grad(lambda *p: loss_of(align, *p), (0, 1)))(params, extra)
    assert (gradient["mix"][0] == 0).all() and (gradient["mix"][1:] != 0).all()
    kernels = gradient["heads"]["layer0"]["kernel"]
    assert (kernels[0] == 0).all() and (kernels[1:] != 0).any((1, 2)).all()
    for block in range(2):
        assert (gradient["encoder"]["blocks"]["mlp"]["fc2"]["kernel"][block] != 0).any()
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_extra))
    # The final norm plays no part.
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["encoder"]["norm"]))


def test_5_targets_are_whitened_by_token(seen):
    np.testing.assert_allclose(seen["target"].mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(seen["target"].var(-1), 1, atol=1e-3)
    block, ids = seen["teacher_blocks"], seen["ids"][:, :NUM_VISIBLE]
    picked = np.take_along_axis(block[:, :, 1:], ids[:, None, :, None], 2)
    tokens = np.concatenate([block[:, :, :1], picked], 2)
    white = (tokens - tokens.mean(-1, keepdims=True)) / tokens.std(-1, keepdims=True)
    np.testing.assert_allclose(seen["target"], white, atol=1e-3)


def test_6_small_differences_cost_the_same_by_smooth_l1_and_l2():
    close = 0.5 * np.random.default_rng(0).uniform(-1, 1, (2, 3, 8)).astype(np.float32)
    zeros = np.zeros_like(close)
    smooth = 2 * losses.feature_error(close, zeros, "smooth_l1")
    np.testing.assert_allclose(smooth, losses.feature_error(close, zeros, "l2"), rtol=1e-6)


@pytest.mark.parametrize("distance", ["smooth_l1", "l1", "l2"])
def test_the_loss_is_the_weighted_mean_of_what_is_seen(distance, state, seen):
    method = build(distance=distance, layer_weights="linear_decay")
    d = np.abs(seen["aligned"] - seen["target"])
    values = {"l1": d, "l2": d**2, "smooth_l1": np.where(d < 1, d**2, 2 * d - 1)}[distance]
    expected = values.mean((0, 2, 3)) @ np.array([0, 1 / 3, 2 / 3])
    found = jax.jit(lambda *given: loss_of(method, *given))(*state)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_layer_weights_by_name():
    third = 1 / 3
    for law, expected in {
        "mean": (third, third, third),
        "out": (0, 0, 1),
        "linear_decay": (0, third, 2 * third),
        "top2": (0, 0.5, 0.5),
        "mid0": (1, 0, 0),
    }.items():
        np.testing.assert_allclose(layer_weights(law, 3), expected)
    for law in ("top0", "top4", "mid3", "topx", "best"):
        with pytest.raises(UserError, match=r"config\.model\.layer_weights = .*top1\.\.top3"):
            layer_weights(law, 3)


def test_the_mixture_starts_as_the_identity_or_as_the_mean():
    init = lambda method: jax.jit(lambda key: method.init(key, BATCH)[0]["mix"])(jax.random.key(0))  # noqa: E731
    np.testing.assert_allclose(init(build()), 1 / 2)
    equal = {**tiny.MODEL["encoder"], "depth": 3}
    np.testing.assert_allclose(init(build(fusion="linear", encoder=equal)), np.eye(3) + 0.01)
    simple = build(fusion="simple", encoder=equal)
    assert "mix" not in jax.eval_shape(simple.init, jax.random.key(0), BATCH)[0]


def test_the_mixture_is_not_decayed_and_moments_of_a_batch_couple_it(align):
    assert align.groups == (("^mix$", "no_decay"),)
    assert not align.coupled and build(target_norm="bn").coupled


def test_drop_path_is_for_training_only(state, seen):
    dropping, plain = build(drop_path=0.9), build()
    one, other = (jax.jit(lambda *p: loss_of(m, *p))(*state) for m in (dropping, plain))  # noqa: B023
    assert one != other
    np.testing.assert_array_equal(seen_of(dropping, *state)["aligned"], seen["aligned"])


def test_loops_over_layers_change_nothing_and_the_gradient_scatters_nothing(align, state):
    """Under a loop the teacher's blocks that are wanted, and its last attention, come apart."""
    looped = build(scan="on")
    one, other = (jax.jit(lambda *p: loss_of(m, *p))(*state) for m in (align, looped))  # noqa: B023
    np.testing.assert_allclose(one, other, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda *p: loss_of(looped, *p))).lower(*state)
    text = slope.as_text()
    assert "scatter" not in text
    assert text.count("stablehlo.sort") == 1
    # Attention of the teacher [B, heads, 17, 17] of one layer, never of all three.
    assert "x3x17x17xf32" in text and "3x6x3x17x17xf32" not in text


def test_only_the_heads_that_count_are_run_and_there_is_no_decoder(align):
    one, all_ = build(layer_weights="out"), build(layer_weights="mean")
    head, mixing = 2 * 5 * 16 * 24, 2 * 5 * 16 * 2
    assert all_.step_flops - one.step_flops == 3 * 2 * (head + mixing)
    params, _ = jax.eval_shape(align.init, jax.random.key(0), BATCH)
    assert params.keys() == {"encoder", "mix", "heads"}
    assert params["heads"]["layer0"]["kernel"].shape == (3, 16, 24)


ERRORS = {
    r"config\.model\.fusion = 'linear': the student has 2 blocks, the teacher 3; take sum": {
        "fusion": "linear"
    },
    r"config\.model\.mask = 'block': one of attention, random": {"mask": "block"},
    r"config\.model\.target_norm = 'ln': one of none, whiten, l2, bn": {"target_norm": "ln"},
    r"config\.model\.head = 'conv': one of linear": {"head": "conv"},
    r"config\.model\.drop_path = 1\.0: must lie in \[0, 1\)": {"drop_path": 1.0},
    r"config\.model\.layer_weights = 'top9'": {"layer_weights": "top9"},
    r"config\.model\.teacher\.image_size = \(16, 16\): gives it \(8, 8\)": {
        "teacher": {**MODEL["teacher"], "image_size": (16, 16)}
    },
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
