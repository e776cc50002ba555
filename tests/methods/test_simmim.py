"""SimMIM: the invariants of its masks, its two encoders, its loss and its recipe."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from adapters import simmim as adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from test_every_method import losses_of
from test_every_method import tiny as tiny_config

from maskjax import losses, masking
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.interop.convert import to_torch
from maskjax.interop.paths import flatten
from maskjax.masking import Draws, cells
from maskjax.method import build_method
from maskjax.nn.teacher_vit import VariantEncoder
from maskjax.train.groups import ParamRules, parse_groups

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "simmim.npz"
VIT = {
    "image_size": (16, 24),
    "patch_size": 4,
    "encoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0},
    "mask_cell": 8,
    "drop_path": 0.0,
}
SWIN = {
    "image_size": (16, 24),
    "patch_size": 2,
    "backbone": "swin",
    "swin": {"dim": 8, "depths": (2, 1), "heads": (2, 4), "window": 4, "mlp_ratio": 2.0},
    "mask_cell": 8,
    "drop_path": 0.0,
}
MODELS = {"vit": VIT, "swin": {**SWIN, "swin": {**SWIN["swin"], "window": 2}}}
both = pytest.mark.parametrize("kind", MODELS)
BATCH = tiny.batch(2, size=(16, 24))
IMAGE = jnp.asarray((BATCH["image"] / 255 - 0.45) / 0.22, jnp.float32)
NOISE = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 6)), jnp.float32)
DRAWS = Draws.replay({"mask": NOISE})


class Case:
    """A method with parameters in which every leaf matters, and its compiled functions."""

    def __init__(self, kind):
        self.method = build_method("mim.simmim", MODELS[kind], BATCH)
        self.params = tiny.params(self.method, BATCH)

        def value(params, image):
            draws, step = DRAWS, jnp.int32(0)
            terms, _ = self.method.phases[0].fn(params, {}, {"image": image}, draws, step, None)
            return losses.total(terms)

        self.loss = jax.jit(jax.value_and_grad(value, (0, 1)))
        predict = self.method.predict["activations"]
        self.seen = jax.jit(lambda params, image: predict(params, {}, {"image": image}, DRAWS))


@pytest.fixture(scope="module")
def cases():
    return {kind: Case(kind) for kind in MODELS}


def hidden_pixels(seen, grid):
    """bool[B, H, W] of a method's 16 x 24 pixels."""
    patch = 16 // grid[0]
    return np.asarray(masking.patches.to_pixels(seen["hidden"], grid, (patch, patch)))


@both
def test_1_whole_cells_are_hidden_and_the_count_is_rounded_up(kind, cases):
    method = cases[kind].method
    seen = cases[kind].seen(cases[kind].params, IMAGE)
    hidden = hidden_pixels(seen, method.describe["grid"]).reshape(2, 2, 8, 3, 8)
    corners = hidden[:, :, :1, :, :1]
    np.testing.assert_array_equal(hidden, np.broadcast_to(corners, hidden.shape))
    assert (corners.sum((1, 2, 3, 4)) == 4).all()  # ceil(6 * 0.6)
    np.testing.assert_array_equal(corners.reshape(2, 6), np.argsort(np.argsort(NOISE)) >= 2)


@given(
    grid=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    cell=st.sampled_from([1, 2, 32 / 14]),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=10, deadline=None)
def test_1_hidden_patches_are_those_of_the_coarse_split(grid, cell, ratio, seed):
    cell = min(cell, *grid)
    _, num = cells.cell_of_tokens(grid, cell)
    options = {"num_visible": cells.coarse_visible(grid, cell, ratio), "cell": cell}
    # Ties too: one value in a few.
    noise = jnp.asarray(np.random.default_rng(seed).integers(0, 4, (3, num)) / 4.0)
    expected = cells.coarse(noise, grid, **options).hidden()
    np.testing.assert_array_equal(cells.coarse_hidden(noise, grid, **options), expected)


@both
def test_2_hidden_pixels_reach_nothing(kind, cases):
    case = cases[kind]
    seen = case.seen(case.params, IMAGE)
    hidden = hidden_pixels(seen, case.method.describe["grid"])[..., None]
    other = case.seen(case.params, jnp.where(hidden, 3 - 2 * IMAGE, IMAGE))
    for name in ("latent", "prediction"):
        np.testing.assert_array_equal(seen[name], other[name])
    total = lambda image: jnp.square(case.seen(case.params, image)["prediction"]).sum()  # noqa: E731
    gradient = np.asarray(jax.grad(total)(IMAGE))
    assert not gradient[np.broadcast_to(hidden, gradient.shape)].any()
    assert (gradient != 0).any(-1)[~hidden[..., 0]].mean() > 0.99


@both
def test_3_the_loss_is_the_mean_error_of_hidden_pixels(kind, cases):
    case = cases[kind]
    seen = case.seen(case.params, IMAGE)
    hidden = hidden_pixels(seen, case.method.describe["grid"])
    value, (_, by_image) = case.loss(case.params, IMAGE)
    errors = np.abs(np.asarray(seen["prediction"]) - np.asarray(IMAGE))
    assert value == pytest.approx(errors[hidden].mean(), rel=1e-5)
    # Per hidden pixel the target moves the loss by 1 / (pixels * channels), and no other way.
    size = np.abs(np.asarray(by_image)[hidden])
    np.testing.assert_allclose(size, 1 / (hidden.sum() * 3), rtol=1e-4)
    far = case.loss(case.params, jnp.where(hidden[..., None], IMAGE + 100, IMAGE))[0]
    assert far == pytest.approx(np.abs(errors_of(seen, IMAGE + 100))[hidden].mean(), rel=1e-5)


def errors_of(seen, target):
    return np.asarray(seen["prediction"]) - np.asarray(target)


@both
def test_4_nothing_hidden_is_the_plain_encoder_and_costs_nothing(kind, cases):
    method = build_method("mim.simmim", {**MODELS[kind], "mask_ratio": 0.0}, BATCH)
    params, fields = cases[kind].params, {"image": IMAGE}
    seen = jax.jit(lambda p: method.predict["activations"](p, {}, fields, DRAWS))(params)
    plain = jax.jit(lambda p: method.predict["encode"](p, {}, fields, None))(params)
    np.testing.assert_allclose(seen["latent"], plain["tokens"], atol=1e-5)
    terms, _ = method.phases[0].fn(params, {}, fields, DRAWS, jnp.int32(0), None)
    assert terms["reconstruction"].weight == pytest.approx(3e-5)
    assert losses.total(terms) == 0


def test_6_the_head_and_its_layout_are_inverse_to_the_pixel_shuffle():
    """Channel c * s^2 + dy * s + dx of the convolution is pixel (dy, dx), channel c."""
    from maskjax.interop.transforms import pixel_head

    kernel, bias = pixel_head(2, 3)
    there = kernel.to_torch(np.eye(12, dtype=np.float32))[:, :, 0, 0]  # [conv channel, value]
    for c, dy, dx in np.ndindex(3, 2, 2):
        (value,) = np.flatnonzero(there[c * 4 + dy * 2 + dx])
        image = masking.unpatchify(np.eye(12)[None, value, None], (1, 1), (2, 2))[0]
        assert np.argwhere(image).tolist() == [[dy, dx, c]]
    np.testing.assert_array_equal(bias.to_torch(np.arange(12)), there @ np.arange(12))
    np.testing.assert_array_equal(
        bias.from_torch(bias.to_torch(np.arange(12)), (12,))[0], range(12)
    )


@both
def test_6_every_parameter_has_a_gradient_and_keys_of_the_vit_no_bias(kind, cases):
    _, (gradient, _) = cases[kind].loss(cases[kind].params, IMAGE)
    zero = [path for path, leaf in flatten(gradient).items() if not np.abs(leaf).max() > 1e-12]
    assert [path for path in zero if not path.endswith("key/bias")] == []
    there = [path for path in flatten(gradient) if path.endswith("key/bias")]
    assert bool(there) == (kind == "swin")


def test_dropped_branches_are_the_draws(cases):
    method = build_method("mim.simmim", {**VIT, "drop_path": 0.5}, BATCH)
    run = lambda noise: method.phases[0].fn(  # noqa: E731
        cases["vit"].params,
        {},
        {"image": IMAGE},
        Draws.replay({"mask": NOISE, "drop_path": noise}),
        jnp.int32(0),
        None,
    )[0]["reconstruction"]
    kept, dropped = (run(jnp.full((2, 2, 2), value)) for value in (0.9, 0.1))
    plain = cases["vit"].loss(cases["vit"].params, IMAGE)[0]
    assert kept.weight == dropped.weight
    assert len({float(kept.sum), float(dropped.sum), float(plain * kept.weight)}) == 3


def test_the_encoder_shows_its_layers_and_takes_a_bias_for_each(cases):
    """What regularisers of mask tokens need: attention and tokens of each layer, a bias in each."""
    encoder = cases["vit"].method.phases[0].fn.__self__.model.encoder
    assert isinstance(encoder, VariantEncoder)
    params = {"params": cases["vit"].params["encoder"]}
    patches, hidden = (
        masking.patchify(IMAGE, (4, 4)),
        cases["vit"].seen(cases["vit"].params, IMAGE)["hidden"],
    )
    padded = jnp.pad(hidden, ((0, 0), (1, 0)))
    pattern = (padded[:, None, None, :] & ~padded[:, None, :, None]).astype(jnp.float32)
    strength = jnp.asarray([-1e9, 0.0])

    @jax.jit
    def run(patches):
        options = {"hidden": hidden, "taps": ("input", "block", "attention")}
        bias = lambda layer: strength[layer] * pattern  # noqa: E731
        plain, biased = (
            encoder.apply(params, patches, **options, bias=given)[1] for given in (None, bias)
        )
        return plain, biased

    plain, biased = run(patches)
    assert plain["attention"].shape == (2, 2, 2, 25, 25)
    assert plain["block"].shape == (2, 2, 25, 16)
    off = np.broadcast_to(np.asarray(pattern, bool), plain["attention"][0].shape)
    assert (np.asarray(plain["attention"][0])[off] > 0).all()
    assert (np.asarray(biased["attention"][0])[off] == 0).all()
    np.testing.assert_allclose(biased["attention"].sum(-1), 1, rtol=1e-5)
    rows = np.asarray(padded)  # rows of mask tokens are as they were
    changed = np.abs(np.asarray(biased["block"][0] - plain["block"][0])).max(-1)
    assert not changed[rows].any() and (changed[:, 1:][~rows[:, 1:]] > 1e-6).all()


@both
def test_initial_values_are_the_official_ones(kind):
    size = {"dim": 64, "heads": (2, 4)} if kind == "swin" else {"dim": 64}
    group = "swin" if kind == "swin" else "encoder"
    model = {**MODELS[kind], group: {**MODELS[kind][group], **size}}
    method = build_method("mim.simmim", model, BATCH)
    params, _ = jax.jit(method.init)(jax.random.key(0), BATCH)
    values = {path: np.asarray(leaf) for path, leaf in flatten(params["encoder"]).items()}
    kernels = [path for path in values if path.endswith("fc1/kernel")]
    assert kernels
    cut = 0.02 if kind == "vit" else np.inf
    for path in kernels:
        assert np.abs(values[path]).max() <= cut * 1.0001
        # A normal cut at one standard deviation has 0.54 of it left.
        assert values[path].std() == pytest.approx(0.0108 if kind == "vit" else 0.02, rel=0.05)
    limit = 1 / np.sqrt(128 if kind == "swin" else 64)  # the head's, by the width it reads
    head = np.asarray(params["decoder"]["kernel"])
    assert limit * 0.98 < np.abs(head).max() <= limit
    if kind == "swin":
        assert 0.01 < values["stage0/blocks/relative"].std() < 0.03
        return
    assert not values["relative"].any()
    np.testing.assert_array_equal(values["blocks/ls1/scale"], np.float32(0.1))
    for path in ("blocks/attn/out/kernel", "blocks/mlp/fc2/kernel"):
        largest = [np.abs(layer).max() for layer in values[path]]
        np.testing.assert_allclose(largest, 0.02 / np.sqrt([2, 4]), rtol=0.02)
    for path in ("cls_token", "mask_token", "patch_embed/kernel"):
        assert 0 < np.abs(values[path]).max() <= 0.02001


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no {GOLDEN}")
@both
def test_what_is_not_decayed_is_what_the_official_code_says(kind):
    with np.load(GOLDEN) as file:
        given = {name: file[name] for name in file.files}
    model = adapter._Model(given, json.loads(str(given["config"])), kind)
    rules = ParamRules(parse_groups(model.method.groups, "Method.groups"))
    decayed = rules.decay_mask(model.params)
    filled = jax.tree.map(lambda leaf, on: np.full(leaf.shape, on), model.params, decayed)
    keys = [key for key, array in to_torch(filled, model.rules).items() if not array.any()]
    assert sorted(keys) == model.cfg[f"{kind}_pretrain_no_decay"]


def test_the_recipes_of_the_paper():
    from maskjax.train.optim import build_schedule

    run = {"total_steps": 800 * 625, "steps_per_epoch": 625, "global_batch": 2048}
    rate = build_schedule(load_config("mim/simmim:b16")[0].optim, **run)
    found = [float(rate(epoch * 625)) for epoch in (0, 10, 699, 700, 799)]
    np.testing.assert_allclose(found, [2e-6, 4e-4, 4e-4, 4e-5, 4e-5], rtol=1e-5)
    run["total_steps"] = 100 * 625
    rate = build_schedule(load_config("mim/simmim:swin_b_100")[0].optim, **run)
    found = [float(rate(epoch * 625)) for epoch in (0, 10, 50, 100)]
    peak = 4e-5 + 7.6e-4 * 0.5 * (1 + np.cos(np.pi / 10))
    np.testing.assert_allclose(found, [4e-6, peak, 4.2e-4, 4e-5], rtol=1e-4)


@pytest.mark.parametrize(
    ("variant", "millions"), [("b16", 86.3), ("swin_b", 89.9), ("swin_l", 199.9)]
)
def test_sizes_of_the_published_models(variant, millions):
    """ViT-B has 85.8 M; Swin-B 86.7 and Swin-L 195.0 without classifier (Liu et al., table 1)."""
    config = load_config(f"mim/simmim:{variant}")[0]
    side = config.model.image_size[0]
    example = {"image": jax.ShapeDtypeStruct((1, side, side, 3), np.uint8)}
    method = build_method("mim.simmim", config.model, example)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), example)
    count = sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
    assert count == pytest.approx(millions, abs=0.3)


@pytest.mark.slow
def test_a_swin_sharded_equals_one_unsharded():
    sizes = {"dim": 16, "depths": (2, 1), "heads": (2, 2), "window": 2}
    changes = {"backbone": "swin", "norm_eps": 1e-5}
    changes |= {f"swin.{key}": value for key, value in sizes.items()}
    options = [f"model.{key}={value}" for key, value in changes.items()]
    one, _ = losses_of(tiny_config("mim/simmim", *options), jax.devices()[:1], 2)
    options += ["mesh.fsdp=2", "train.accumulate=2"]
    many, _ = losses_of(tiny_config("mim/simmim", *options), jax.devices(), 2)
    for single, sharded in zip(one, many, strict=True):
        for key in single:
            assert sharded[key] == pytest.approx(single[key], rel=2e-4, abs=1e-6), key


@both
@pytest.mark.parametrize("scan", ["on", "off"])
def test_remat_scan_and_half_precision(kind, scan, cases):
    model = {**MODELS[kind], "scan": scan, "remat": "full"}
    other = build_method("mim.simmim", model, BATCH)
    half = build_method("mim.simmim", {**model, "dtype": "bfloat16"}, BATCH)
    value = cases[kind].loss(cases[kind].params, IMAGE)[0]
    for method, rel in ((other, 1e-5), (half, 0.03)):
        terms, _ = jax.jit(
            lambda p, m=method: m.phases[0].fn(p, {}, {"image": IMAGE}, DRAWS, jnp.int32(0), None)
        )(cases[kind].params)
        assert terms["reconstruction"].sum.dtype == jnp.float32
        assert losses.total(terms) == pytest.approx(float(value), rel=rel)


def test_a_swin_without_a_class_token_gives_its_mean(cases):
    case = cases["swin"]
    found = case.method.predict["encode"](case.params, {}, {"image": IMAGE}, None)
    np.testing.assert_allclose(found["cls"], found["mean"], rtol=1e-5, atol=1e-6)
    assert found["tokens"].shape == (2, 4 * 6, 16)
    pictures = case.method.predict["reconstruct"](case.params, {}, {"image": IMAGE}, DRAWS)
    assert pictures["prediction"].shape == pictures["target"].shape == (2, 96, 12)
    assert pictures["pixels"].shape == BATCH["image"].shape


ERRORS = {
    r"config\.model\.backbone = 'resnet': vit or swin": {"backbone": "resnet"},
    r"config\.model\.patch_size = \(4, 2\): must be square": {"patch_size": (4, 2)},
    r"config\.model\.mask_cell = 2: pixels are 0\.5 patches of 4.*at least 1": {"mask_cell": 2},
    r"config\.model\.mask_cell = 32: .*at most the grid": {"mask_cell": 32},
    r"config\.model\.mask_cell = 0: must be a positive int": {"mask_cell": 0},
    r"config\.model\.mask_ratio = 1\.5": {"mask_ratio": 1.5},
    r"config\.model\.drop_path = 1\.0: must be a number in \[0, 1\)": {"drop_path": 1.0},
    r"config\.model\.layer_scale = -1": {"layer_scale": -1},
    r"config\.model\.norm_eps = 0": {"norm_eps": 0},
    r"config\.model\.init_std = 0": {"init_std": 0},
    r"config\.model\.encoder\.heads = 3": {"encoder": {"dim": 16, "heads": 3}},
    r"config\.model\.swin\.window = 4: on patches \(8, 12\): windows of 4 do not divide": {
        **SWIN,
        "image_size": (16, 24),
        "swin": {**SWIN["swin"], "window": 4, "depths": (1, 1), "heads": (1, 1)},
    },
    r"config\.model\.swin\.window = 2: .*cannot be merged": {
        **SWIN,
        "swin": {**SWIN["swin"], "window": 2, "depths": (1,) * 4, "heads": (1,) * 4},
    },
    r"config\.model\.swin\.heads = \(2,\): must be as many": {
        **SWIN,
        "swin": {**SWIN["swin"], "heads": (2,)},
    },
    r"config\.model\.swin\.heads = \(3, 4\): must divide the widths \[8, 16\]": {
        **SWIN,
        "swin": {**SWIN["swin"], "heads": (3, 4)},
    },
    r"config\.model\.swin\.depths = \(2, 0\)": {**SWIN, "swin": {"depths": (2, 0)}},
    r"config\.model\.swin\.dim = 0": {**SWIN, "swin": {**SWIN["swin"], "dim": 0}},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build_method("mim.simmim", {**VIT, **ERRORS[message]}, BATCH)
