"""CAE: the invariants of its branches, its masks and its losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses
from maskjax.errors import UserError
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import cae as layout
from maskjax.interop.paths import flatten
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.geometry import Geometry

BATCH = {**tiny.batch(3), "token_ids": np.arange(48, dtype=np.int32).reshape(3, 16) % 11}
IMAGE = jnp.asarray((BATCH["image"] / 255 - 0.45) / 0.22, jnp.float32)
# The decoder is narrower than the encoder, so latents are projected.
MODEL = {
    **tiny.MODEL,
    "mean": (0.45,) * 3,
    "std": (0.22,) * 3,
    "regressor_depth": 2,
    "drop_path": 0.0,
    "mask": {"law": "random"},
    "tokenizer": {"field": "token_ids", "vocab": 11},
}
NOISE = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16)), jnp.float32)
EXTRA = {"tokenizer": {}}


def build(**model):
    return build_method("mim.cae", {**MODEL, **model}, BATCH)


@pytest.fixture(scope="module")
def cae():
    return build()


@pytest.fixture(scope="module")
def params(cae):
    return tiny.params(cae, BATCH)


def terms_of(method, params, image, noise, ids=BATCH["token_ids"], **recorded):
    draws = Draws.replay({"mask": noise, **recorded})
    batch = {"image": image, "token_ids": ids}
    found, _ = method.phases[0].fn(params, EXTRA, batch, draws, jnp.int32(0), None)
    return {name: losses.total({name: term}) for name, term in found.items()}


@pytest.fixture(scope="module")
def seen_of(cae):
    def run(params, image, noise):
        batch, draws = {"image": image}, Draws.replay({"mask": noise})
        return cae.predict["activations"](params, EXTRA, batch, draws)

    return jax.jit(run)


def pixels_of(hidden):
    """bool[3, 16] over patches -> bool[3, 8, 8, 1] over pixels."""
    cells = np.asarray(hidden).reshape(3, 4, 4)
    return np.repeat(np.repeat(cells, 2, 1), 2, 2)[..., None]


def test_1_hidden_pixels_reach_the_target_only_and_visible_ones_all_else(seen_of, params):
    before = seen_of(params, IMAGE, NOISE)
    hidden = pixels_of(before["hidden"])
    for changed, same in (
        (hidden, ("latent", "predicted", "logits")),
        (~hidden, ("target",)),
    ):
        after = seen_of(params, jnp.where(changed, -IMAGE, IMAGE), NOISE)
        for name in ("latent", "predicted", "logits", "target"):
            equal = np.array_equal(before[name], after[name])
            assert equal == (name in same), name


def test_1_no_gradient_flows_to_hidden_pixels(cae, params):
    def loss(image):
        return sum(terms_of(cae, params, image, NOISE).values())

    gradient = np.asarray(jax.jit(jax.grad(loss))(IMAGE))
    hidden = np.broadcast_to(pixels_of(np.argsort(np.argsort(NOISE)) >= 8), gradient.shape)
    assert not gradient[hidden].any()
    assert (gradient[~hidden] != 0).mean() > 0.99


def test_2_the_target_is_a_constant_to_the_gradient(cae, params, seen_of):
    target = seen_of(params, IMAGE, NOISE)["target"]

    def both(params):
        return terms_of(cae, params, IMAGE, NOISE)["alignment"]

    def constant(params):
        predicted = seen_of(params, IMAGE, NOISE)["predicted"]
        return 2 * jnp.square(predicted - target).mean()

    (one, found), (two, expected) = (
        jax.jit(jax.value_and_grad(fn))(params) for fn in (both, constant)
    )
    assert float(one) == pytest.approx(float(two), rel=1e-5)
    found, expected = flatten(found), flatten(expected)
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-4, atol=1e-6, err_msg=path)
    assert not any(leaf.any() for path, leaf in found.items() if path.startswith("decoder/"))
    for path in ("encoder/cls_token", "project/kernel", "mask_token", "regressor/norm/scale"):
        assert np.asarray(found[path]).any()


def test_3_block_masks_have_exact_counts():
    method = build(mask={"law": "block", "min_block": 2}, mask_ratio=0.4)
    batch = {"image": jnp.zeros((256, 8, 8, 3)), "token_ids": jnp.zeros((256, 16), jnp.int32)}
    mask = method.phases[0].fn.__self__.mask
    draws = Draws.keyed(jax.random.key(0), tiny.positions(256))
    hidden = np.asarray(jax.jit(lambda: mask.sample(draws).hidden())()).reshape(-1, 4, 4)
    assert (hidden.sum((1, 2)) == 7).all()
    assert len({row.tobytes() for row in hidden}) > 100
    # Neighbours are hidden together more often than by chance (7 / 16 of a hidden one's).
    pairs = hidden[:, :, 1:][hidden[:, :, :-1]]
    assert pairs.mean() > 0.55
    assert set(batch) <= set(BATCH)


def test_4_the_order_of_hidden_tokens_does_not_matter(cae, params):
    order = np.argsort(NOISE, 1)
    shuffled = np.array(NOISE)
    for row, ids in enumerate(order):
        shuffled[row, ids[8:]] = np.random.default_rng(row).permutation(shuffled[row, ids[8:]])
    assert (np.argsort(shuffled, 1) != order).any()
    run = jax.jit(lambda noise: terms_of(cae, params, IMAGE, noise))
    for name, value in run(NOISE).items():
        assert float(run(jnp.asarray(shuffled))[name]) == pytest.approx(float(value), rel=1e-5)


def test_5_keys_have_no_bias_and_branches_are_scaled(params):
    paths = flatten(params)
    for stack in ("encoder", "regressor", "decoder"):
        assert f"{stack}/blocks/attn/key/kernel" in paths
        assert f"{stack}/blocks/attn/value/bias" in paths
        assert f"{stack}/blocks/ls2/scale" in paths
    assert not [path for path in paths if path.endswith("key/bias")]


def test_6_without_branches_the_prediction_is_of_the_mask_token_alone(params, seen_of):
    off = {**params, "regressor": {**params["regressor"]}}
    for part in ("regressor", "decoder"):
        blocks = dict(params[part]["blocks"])
        blocks |= {
            name: {"scale": jnp.zeros_like(blocks[name]["scale"])} for name in ("ls1", "ls2")
        }
        off[part] = {**params[part], "blocks": blocks}
    predicted = np.asarray(seen_of(off, IMAGE, NOISE)["predicted"])
    assert np.ptp(predicted, (0, 1)).max() < 1e-6
    assert predicted.std() > 0.1


def test_7_the_first_loss_is_that_of_guessing():
    method = build(tokenizer={"field": "token_ids", "vocab": 8192}, layer_scale=0.1)
    params, _ = jax.jit(method.init)(jax.random.key(0), BATCH)
    ids = np.random.default_rng(0).integers(0, 8192, (3, 16), np.int32)
    found = terms_of(method, params, IMAGE, NOISE, ids)
    assert float(found["tokens"]) == pytest.approx(np.log(8192), rel=0.08)
    scale = params["encoder"]["blocks"]["ls1"]["scale"]
    np.testing.assert_array_equal(scale, np.float32(0.1))
    kernel = params["encoder"]["patch_embed"]["kernel"]
    assert float(jnp.abs(kernel).max()) <= 0.02
    assert float(kernel.std()) == pytest.approx(0.54 * 0.02, rel=0.15)  # cut at one sigma


def test_drop_path_is_drawn_for_each_branch_on_its_own(params):
    method = build(drop_path=0.9)
    ones = {
        name: jnp.ones((3, depth, 2))
        for name, depth in (("encoder", 2), ("target", 2), ("decoder", 1), ("regressor", 2))
    }

    @jax.jit
    def run(noise):
        recorded = {f"drop_path/{name}": value for name, value in noise.items()}
        return terms_of(method, params, IMAGE, NOISE, **recorded)

    before = run(ones)
    for name, affected in (
        ("target", {"alignment"}),
        ("encoder", {"tokens", "alignment"}),
        ("regressor", {"tokens", "alignment"}),
    ):
        after = run({**ones, name: jnp.zeros_like(ones[name])})
        assert {key for key in before if before[key] != after[key]} == affected


def test_the_picture_shows_true_and_predicted_tokens(cae, params, seen_of):
    batch, draws = {**BATCH, "image": IMAGE}, Draws.replay({"mask": NOISE})
    found = jax.jit(lambda p: cae.predict["tokens"](p, EXTRA, batch, draws))(params)
    seen = seen_of(params, IMAGE, NOISE)
    np.testing.assert_array_equal(found["ids"], BATCH["token_ids"])
    assert (np.asarray(found["predicted"])[~np.asarray(found["hidden"])] == -1).all()
    expected = np.take_along_axis(np.asarray(found["predicted"]), np.asarray(seen["hidden_ids"]), 1)
    np.testing.assert_array_equal(expected, seen["logits"].argmax(-1))
    np.testing.assert_allclose(found["original"], (IMAGE * 0.22 + 0.45).clip(0, 1), atol=1e-5)
    assert "reconstruct" not in cae.predict


def test_official_names_and_back(cae, params):
    geometry = Geometry(**cae.describe["geometry"])
    rules = layout.rules(geometry, 8)
    arrays = to_torch(params, rules)
    assert arrays["encoder_to_regresser.weight"].shape == (8, 16)
    assert arrays["rd_pos_embed"].shape == (1, 17, 8)
    assert arrays["encoder.blocks.1.attn.q_bias"].shape == (16,)
    assert arrays["regresser.regressor_blocks.1.cross_attn.k.weight"].shape == (8, 8)
    assert arrays["decoder.head.weight"].shape == (11, 8)
    arrays["alignment_encoder.norm.weight"] = np.zeros(16)
    again = from_torch(arrays, rules, params, allow_unused=layout.UNUSED)
    jax.tree.map(np.testing.assert_array_equal, again, params)


ERRORS = {
    r"config\.model\.mask\.law = 'grid': block or random": {"mask": {"law": "grid"}},
    r"config\.model\.mask = .*min_block=0": {"mask": {"law": "block", "min_block": 0}},
    r"config\.model\.drop_path = 1\.0: must be at least 0 and below 1": {"drop_path": 1.0},
    r"config\.model\.align_weight = -1": {"align_weight": -1},
    r"config\.model\.regressor_depth = 0: must be positive": {"regressor_depth": 0},
    r"config\.model\.tokenizer\.field = 'token_ids': .*int32\[16\].* grid \(2, 2\)": {
        "patch_size": 4
    },
    r"config\.model\.patch_size = \(2, 4\): must be square": {"patch_size": (2, 4)},
    r"image_size = \(112, 112\): gives 14 x 14 tokens of 8 pixels .* there are 4 x 4 patches": {
        "tokenizer": {"field": ""}
    },
    r"config\.model\.tokenizer\.width = 6: must be a multiple of 4": {"tokenizer": {"width": 6}},
    r"trains on codes, the data has image, token_ids": {"tokenizer": {"field": "codes"}},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
