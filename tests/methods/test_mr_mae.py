"""MR-MAE: the invariants of its two losses, its encoders and its masks, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import convmae
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.conv_autoencoder import ConvBlock, ConvEncoder

BATCH = tiny.batch(4)
TEACHER = ("dim=12", "depth=2", "heads=2", "mlp_hidden=16", "patch_size=2")
VIT = {**tiny.MODEL, "teacher": {"name": "mae_b16", "file": "random", "change": TEACHER}}
SIZES = {"dims": (4, 8, 16), "depths": (1, 2, 2), "patches": (1, 2, 1), "mlp_ratios": (2.0,) * 3}
CONV = {**VIT, "backbone": "conv", "conv": {**SIZES, "heads": 2}, "mask_ratio": 0.5}
BOTH = pytest.mark.parametrize("name", ["vit", "conv"])
NOISE = np.random.default_rng(1).random((4, 16), np.float32)
TERMS = {"reconstruction", "mimic"}


@functools.cache
def plain(name):
    """(method, params, extra, runner) of one of both encoders."""
    method = build({"vit": VIT, "conv": CONV}[name])
    return method, *state(method), runner(method)


def build(model=VIT, **changes):
    return build_method("distill.mr_mae", {**model, **changes}, BATCH)


def state(method, seed=0):
    shapes = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    return tuple(tiny.filled(tree, seed) for tree in shapes)


def draws(num=4):
    return Draws.keyed(jax.random.key(0), tiny.positions(num))


def runner(method):
    """(params, extra, image, noise of uniform masks) -> (terms, activations), jitted."""

    def run(params, extra, image, noise):
        batch, replay = {"image": image}, Draws.replay({"mask": noise})
        terms, _ = method.phases[0].fn(params, extra, batch, replay, jnp.int32(0), None)
        values = {name: losses.total({name: term}) for name, term in terms.items()}
        return values, method.predict["activations"](params, extra, batch, replay)

    jitted = jax.jit(run)
    return lambda params, extra, image, noise=NOISE: jitted(params, extra, image, noise)


def cells_of(hidden, grid=4):
    side = 8 // grid
    return np.asarray(hidden).reshape(-1, grid, grid).repeat(side, 1).repeat(side, 2)


@BOTH
def test_1_hidden_pixels_reach_no_visible_latent(name):
    """Exactly: by values, and by the gradient of everything that is made of them."""
    method, params, extra, run = plain(name)
    _, seen = run(params, extra, BATCH["image"])
    hidden = cells_of(seen["hidden"])
    other = np.where(hidden[..., None], 255 - BATCH["image"], BATCH["image"])
    _, changed = run(params, extra, other)
    for key in ("latent", "prediction", "mimic/teacher"):
        np.testing.assert_array_equal(seen[key], changed[key])
    assert (np.asarray(seen["target/teacher"]) != np.asarray(changed["target/teacher"])).any()

    def total(image):
        replay = Draws.replay({"mask": NOISE})
        found = method.predict["activations"](params, extra, {"image": image}, replay)
        return jnp.square(found["prediction"]).sum() + jnp.square(found["latent"]).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(jnp.float32(BATCH["image"]) / 255))
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).any(-1).all()


@BOTH
def test_2_each_loss_is_of_its_own_tokens(name):
    method, params, extra, run = plain(name)
    terms, seen = run(params, extra, BATCH["image"])
    assert terms.keys() == TERMS
    body = method.phases[0].fn.__self__
    target = np.asarray(body.pixels.target(body.pixels.patches(BATCH["image"])))
    errors = np.square(np.asarray(seen["prediction"]) - target).mean(-1)
    hidden = np.asarray(seen["hidden"])
    assert terms["reconstruction"] == pytest.approx(errors[hidden].mean(), rel=1e-5)
    gap = np.asarray(seen["mimic/teacher"]) - np.asarray(seen["target/teacher"])
    assert terms["mimic"] == pytest.approx(np.square(gap).mean(), rel=1e-5)
    # The targets are those of the visible patches, whitened.
    whole, _ = jax.jit(body.taught)(extra, BATCH)
    chosen = np.take_along_axis(whole["teacher"], np.asarray(seen["visible_ids"])[..., None], 1)
    np.testing.assert_allclose(seen["target/teacher"], chosen, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(chosen.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(chosen.var(-1), 1, atol=1e-2)


@BOTH
def test_3_no_loss_teaches_the_other_ones_part_nor_the_teacher(name):
    method, params, extra, _ = plain(name)

    def both(params, extra):
        terms, _ = method.phases[0].fn(params, extra, BATCH, draws(), jnp.int32(0), None)
        return [losses.total({one: terms[one]}) for one in sorted(TERMS)]

    size = lambda tree: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))  # noqa: E731

    def gradients(params, extra):
        _, pull = jax.vjp(both, params, extra)
        return pull([1.0, 0.0]), pull([0.0, 1.0])

    (mimic, again), (pixels, of_teacher) = jax.jit(gradients)(params, extra)
    assert size(of_teacher) == size(again) == 0
    assert size(pixels["mimic"]) == 0 and size(pixels["decoder"]) > 0
    assert size(mimic["decoder"]) == 0 and size(mimic["mimic"]) > 0
    assert size(pixels["encoder"]["blocks"]) > 0 and size(mimic["encoder"]["blocks"]) > 0


def test_4_a_mask_that_shows_everything_changes_nothing():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 4)), jnp.float32)
    block = ConvBlock(8)
    params = tiny.filled(jax.eval_shape(block.init, jax.random.key(0), x))
    run = jax.jit(lambda p, valid: block.apply(p, x, valid))
    every, plain = run(params, jnp.ones((2, 6, 6), bool)), run(params, None)
    np.testing.assert_allclose(every, plain, rtol=1e-5, atol=1e-6)
    some = run(params, jnp.arange(6)[None, :, None] < jnp.full((2, 6, 6), 3))
    assert np.abs(some - plain)[:, :3].max() > 1e-3
    np.testing.assert_allclose(some[:, 0], plain[:, 0], rtol=1e-5, atol=1e-6)

    encoder = ConvEncoder(build(CONV).phases[0].fn.__self__.model.encoder_size, (4, 4))
    image = jnp.asarray(BATCH["image"][:2], jnp.float32)
    params = tiny.filled(jax.eval_shape(encoder.init, jax.random.key(0), image))
    ids = jnp.tile(jnp.arange(16), (2, 1))
    whole = jax.jit(lambda p, ids: encoder.apply(p, image, ids)[0])
    np.testing.assert_allclose(whole(params, ids), whole(params, None), rtol=1e-4, atol=1e-5)


def test_5_the_masks_of_the_stages_hide_what_the_mask_hides():
    _, params, extra, run = plain("conv")
    _, seen = run(params, extra, BATCH["image"])
    for stage, side in ((1, 8), (2, 4)):
        hidden = np.asarray(seen[f"hidden{stage}"])
        assert hidden.shape == (4, side, side)
        assert (hidden.mean((1, 2)) == 0.5).all()
        repeated = np.asarray(seen["hidden"]).reshape(4, 4, 4)
        factor = side // 4
        np.testing.assert_array_equal(hidden, repeated.repeat(factor, 1).repeat(factor, 2))


@BOTH
def test_6_a_student_that_mimics_perfectly_has_no_mimic_loss(name):
    """One image of few visible tokens: some linear layer gives exactly the teacher's."""
    _, params, extra, run = plain(name)
    image = BATCH["image"][:1].repeat(4, 0)
    noise = np.tile(np.arange(16, dtype=np.float32), (4, 1))
    _, seen = run(params, extra, image, noise)
    front = seen["latent"].shape[1] - seen["target/teacher"].shape[1]
    latent = np.asarray(seen["latent"])[0, front:]
    inputs = np.concatenate([latent, np.ones((len(latent), 1))], 1)
    solution = np.linalg.lstsq(inputs, np.asarray(seen["target/teacher"])[0], rcond=None)[0]
    head = {"kernel": jnp.asarray(solution[:-1]), "bias": jnp.asarray(solution[-1])}
    params = {**params, "mimic": {"teacher": head}}
    terms, _ = run(params, extra, image, noise)
    assert terms["mimic"] < 1e-8 and terms["reconstruction"] > 1e-2


def test_masks_follow_the_attention_of_the_teacher():
    num = 64
    images = {"image": tiny.images(num)}
    shown = {}
    for visible in ("random", "salient"):
        method = build(visible=visible)
        _, extra = state(method)
        # Sharper attention, so that there is something to see.
        sharper = lambda path, x: 30 * x if "query" in str(path) else x  # noqa: E731
        extra = jax.tree_util.tree_map_with_path(sharper, extra)
        body = method.phases[0].fn.__self__
        _, scores = jax.jit(body.taught)(extra, images)
        shown[visible] = ~np.asarray(body.sample(draws(num), scores).hidden())
        assert (shown[visible].sum(1) == 4).all()
    saliency = np.asarray(scores)
    share = {name: (saliency * mask).sum() / saliency.sum() for name, mask in shown.items()}
    assert share["random"] < 0.35 and share["salient"] > 1.5 * share["random"]


def test_layers_are_fused_as_their_mean_or_by_weights_that_start_so():
    mean = build(fusion_layers=(0, 1))
    params, extra = state(mean)
    learned = build(fusion_layers=(0, 1), fusion="learned")
    head = learned.phases[0].fn.__self__.head
    made = head.init(jax.random.key(0), jnp.zeros((2, 1, 1, 16)))["params"]
    np.testing.assert_allclose(made["fusion"], [0.5, 0.5])
    both = {**params, "mimic": {**params["mimic"], "fusion": jnp.array([0.5, 0.5])}}
    terms, seen = runner(mean)(params, extra, BATCH["image"])
    run = runner(learned)
    other, _ = run(both, extra, BATCH["image"])
    assert terms["mimic"] == pytest.approx(float(other["mimic"]), rel=1e-5)
    assert seen["mimic/teacher"].shape == (4, 4, 12)
    # Only of the first block: what comes after it does not matter.
    first = {**both, "mimic": {**both["mimic"], "fusion": jnp.array([1.0, 0.0])}}
    later = jax.tree.map(lambda leaf: leaf.at[1].add(1.0), params["encoder"]["blocks"])
    moved = {**first, "encoder": {**params["encoder"], "blocks": later}}
    before, after = (run(tree, extra, BATCH["image"])[0] for tree in (first, moved))
    assert before["mimic"] == after["mimic"] != other["mimic"]
    assert before["reconstruction"] != after["reconstruction"]


def test_a_second_teacher_and_none():
    second = {"name": "mae_b16", "file": "random", "change": (*TEACHER, "dim=8", "patch_size=4")}
    two = build(second={**second, "image_size": (16, 16)})
    assert two.load == {"extra/teacher": "model.teacher", "extra/second": "model.second"}
    params, extra = state(two)
    terms = lambda: two.phases[0].fn(params, extra, BATCH, draws(), jnp.int32(0), None)[0]  # noqa: E731
    assert jax.eval_shape(terms).keys() == {*TERMS, "mimic_second"}
    none = build(mimic_weight=0)
    assert none.load == {} and none.step_flops < build().step_flops < two.step_flops
    mae = build_method("mim.mae", {**tiny.MODEL}, BATCH)
    own = {name: params[name] for name in ("encoder", "decoder")}
    run = lambda m: m.phases[0].fn(own, {}, BATCH, draws(), jnp.int32(0), None)[0]  # noqa: E731
    alone, same = jax.jit(lambda: [losses.total(run(method)) for method in (none, mae)])()
    assert float(alone) == pytest.approx(float(same), rel=1e-6)


def test_official_names_go_both_ways():
    _, params, _, _ = plain("conv")
    rules = convmae.rules(SIZES["depths"], (4, 4), 16, 8)
    arrays = to_torch(params, rules, allow_dropped=("mimic/*",))
    assert arrays["blocks2.1.attn.weight"].shape == (8, 1, 5, 5)
    assert arrays["blocks1.0.mlp.fc1.weight"].shape == (8, 4, 1, 1)
    assert arrays["stage1_output_decode.weight"].shape == (16, 4, 2, 2)
    own = {name: params[name] for name in ("encoder", "decoder")}
    back = from_torch(arrays, rules, jax.tree.map(np.zeros_like, own))
    jax.tree.map(np.testing.assert_array_equal, back, jax.tree.map(np.asarray, own))


def test_the_first_layers_are_decayed_most():
    layers = build(CONV).layers
    assert layers("encoder/stage1_0/conv1/kernel") == layers("encoder/embed3/proj/kernel") == 0
    assert layers("encoder/blocks/attn/out/kernel") == (1, 2)
    assert layers("encoder/norm/scale") == layers("decoder/pred/bias") == 3


def test_no_scatter_is_in_the_gradient():
    method, _, _, _ = plain("conv")
    shapes = jax.eval_shape(method.init, jax.random.key(0), BATCH)

    def total(params, extra):
        terms, _ = method.phases[0].fn(params, extra, BATCH, draws(), jnp.int32(0), None)
        return losses.total(terms)

    assert "scatter" not in jax.jit(jax.grad(total)).lower(*shapes).as_text()


def test_remat_and_scan_change_no_number():
    _, params, extra, run = plain("conv")
    other, replay = build(CONV, remat="full", scan="on"), Draws.replay({"mask": NOISE})
    fn = jax.jit(lambda p, e: other.phases[0].fn(p, e, BATCH, replay, jnp.int32(0), None)[0])
    terms = fn(params, extra)
    wanted, _ = run(params, extra, BATCH["image"])
    for name, term in terms.items():
        found = float(losses.total({name: term}))
        assert found == pytest.approx(float(wanted[name]), rel=1e-5)


ERRORS = {
    r"config\.model\.backbone = 'swin': vit or conv": {"backbone": "swin"},
    r"config\.model\.visible = 'salient': needs a teacher": {
        "visible": "salient",
        "mimic_weight": 0.0,
    },
    r"config\.model\.visible = 'salient': needs a teacher with a class token": {
        "visible": "salient",
        "teacher": {"name": "mae_b16", "file": "random", "change": (*TEACHER, "cls=false")},
    },
    r"config\.model\.fusion_layers = \(2,\): .* 0\.\.1": {"fusion_layers": (2,)},
    r"config\.model\.mimic_weight = -1": {"mimic_weight": -1},
    r"config\.model\.teacher\.image_size = \(16, 16\): gives it \(8, 8\)": {
        "teacher": {"change": TEACHER, "image_size": (16, 16)}
    },
}
CONV_ERRORS = {
    r"config\.model\.conv\.dims = \(4, 8\): must be three": {"dims": (4, 8)},
    r"config\.model\.patch_size = \(2, 2\): the three strides": {"patches": (2, 2, 2)},
    r"config\.model\.conv\.heads = 3: must divide": {"heads": 3},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])


@pytest.mark.parametrize("message", CONV_ERRORS)
def test_build_errors_of_the_convolutions(message):
    with pytest.raises(UserError, match=message):
        build(CONV, conv={**CONV["conv"], **CONV_ERRORS[message]})
