"""ColorMAE: MAE with other masks, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax import losses, masking
from maskjax.errors import UserError
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import mmpretrain
from maskjax.masking import Draws, colors
from maskjax.method import Schedule, build_method
from maskjax.nn.geometry import Geometry
from maskjax.nn.position import sincos_2d

BATCH = tiny.batch(12)
GRID, TOKENS, VISIBLE = (4, 4), 16, 4


def build(**model):
    return build_method("mim.colormae", {**tiny.MODEL, **model}, BATCH)


def loss(method, params, extra, draws):
    terms, _ = method.phases[0].fn(params, extra, BATCH, draws, 0, method.static(0))
    return losses.total(terms)


def hidden(method, params, extra, draws):
    def only(*args):
        return method.predict["reconstruct"](*args)["hidden"]

    return np.asarray(jax.jit(only)(params, extra, BATCH, draws))


def keyed(seed=0):
    return Draws.keyed(jax.random.key(seed), BATCH["position"])


@pytest.fixture(scope="module")
def params():
    return tiny.params(build(), BATCH)


def test_with_the_same_visible_patches_it_is_mae(params):
    """White noise w shows what MAE shows for the noise -w."""
    noise = jnp.asarray(np.random.default_rng(0).uniform(size=(12, *GRID)), jnp.float32)
    color, mae = build(color="white"), build_method("mim.mae", tiny.MODEL, BATCH)
    own = jax.jit(lambda p: loss(color, p, {}, Draws.replay({"mask": noise})))(params)
    flat = Draws.replay({"mask": -noise.reshape(12, TOKENS)})
    assert own == jax.jit(lambda p: loss(mae, p, {}, flat))(params)
    assert jax.tree.structure(params) == jax.tree.structure(tiny.params(mae, BATCH))
    assert color.describe == mae.describe


@pytest.mark.parametrize("color", ["red", "green", "blue", "purple"])
def test_the_highest_noise_stays_visible_and_counts_are_exact(color, params):
    method = build(color=color)
    draws = keyed()
    found = hidden(method, params, {}, draws)
    assert (found.sum(1) == TOKENS - VISIBLE).all()
    noise = draws.uniform("mask", colors.canvas(GRID, color))
    expected = masking.colored(noise, GRID, num_visible=VISIBLE, color=color).hidden()
    np.testing.assert_array_equal(found, expected)


def test_masks_from_a_bank_are_windows_of_it(params):
    method = build(bank=(3, 8))
    _, extra = method.init(jax.random.key(0), BATCH)
    bank = np.asarray(extra["banks"]["green"])
    assert bank.shape == (3, 8, 8)
    assert 0 <= bank.min() < 0.01 < 0.99 < bank.max() <= 1
    found = hidden(method, params, extra, keyed())
    windows = set()
    for part in (
        bank[i, t : t + 4, c : c + 4] for i in range(3) for t in range(5) for c in range(5)
    ):
        for view in (part, part[::-1], part[:, ::-1], part[::-1, ::-1]):
            order = np.argsort(-view.reshape(-1), kind="stable")
            windows.add(tuple(np.isin(np.arange(TOKENS), order[VISIBLE:])))
    assert {tuple(row) for row in found} <= windows
    assert len({tuple(row) for row in found}) > 3


def test_a_shared_batch_takes_slice_k_for_image_k(params):
    method = build(bank=(3, 8), batch_shared=True)
    assert method.coupled
    assert not build(bank=(3, 8)).coupled
    _, extra = method.init(jax.random.key(0), BATCH)
    same = jax.tree.map(lambda bank: bank.at[:].set(bank[0]), extra)
    found = hidden(method, params, same, keyed())
    for block in range(4):  # one corner and flip for every block of as many images as slices
        assert (found[3 * block : 3 * block + 3] == found[3 * block]).all()
    assert len({tuple(row) for row in found}) > 1


def test_colours_change_at_their_epochs_and_share_the_white_noise():
    colors_of = ((0, "green"), (2, "blue"), (3, "red"))
    method = build_method(
        "mim.colormae",
        {**tiny.MODEL, "color": colors_of, "bank": (2, 8)},
        BATCH,
        Schedule(60, 10.0),
    )
    steps = {0: "green", 19: "green", 20: "blue", 29: "blue", 30: "red", 59: "red"}
    assert {step: method.static(step) for step in steps} == steps
    _, extra = method.init(jax.random.key(0), BATCH)
    assert set(extra["banks"]) == {"green", "blue", "red"}
    # With one width, red + blue of the same white noise is white: blue high where red is low.
    red, blue = (np.asarray(extra["banks"][name]) for name in ("red", "blue"))
    assert np.corrcoef(red.ravel(), blue.ravel())[0, 1] < 0.5


def test_tables_with_the_row_first_and_the_names_of_mmpretrain(params):
    method = build(position="sincos_rows")
    seen = jax.jit(method.predict["activations"])(params, {}, BATCH, keyed())
    first = np.asarray(seen["encoder_input"])[:, 1:]
    ids = np.asarray(seen["visible_ids"])[..., None]
    added = first - np.take_along_axis(np.asarray(seen["patch_embed"]), ids, 1)
    dims = {"encoder": first.shape[-1], "decoder": seen["decoder_input"].shape[-1]}
    rows = {name: sincos_2d(GRID, dim, first="row") for name, dim in dims.items()}
    np.testing.assert_allclose(added, rows["encoder"][ids[..., 0]], atol=1e-5)
    hidden = np.asarray(seen["hidden"])
    masked = np.asarray(seen["decoder_input"])[:, 1:][hidden]
    places = np.nonzero(hidden)[1]
    token = np.asarray(params["decoder"]["mask_token"])
    np.testing.assert_allclose(masked - token, rows["decoder"][places], atol=1e-5)

    geometry = Geometry(**method.describe["geometry"])
    arrays = to_torch(params, mmpretrain.rules(geometry))
    np.testing.assert_allclose(arrays["backbone.pos_embed"][0, 1:], rows["encoder"], atol=1e-6)
    np.testing.assert_allclose(arrays["neck.decoder_pos_embed"][0, 1:], rows["decoder"], atol=1e-6)
    inner = ("ln1.weight", "attn.qkv.bias", "attn.proj.weight", "ffn.layers.0.0.weight")
    assert {f"backbone.layers.1.{name}" for name in inner} <= arrays.keys()
    assert {f"neck.decoder_blocks.0.{name}" for name in inner} <= arrays.keys()
    ends = ("backbone.cls_token", "backbone.ln1.bias", "neck.mask_token", "neck.ln1.weight")
    assert set(ends) <= arrays.keys()
    again = from_torch(arrays, mmpretrain.rules(geometry), params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    columns = Geometry(**build().describe["geometry"])
    with pytest.raises(UserError, match=r"backbone\.pos_embed"):
        from_torch(arrays, mmpretrain.rules(columns), params)


ERRORS = {
    r"config\.model\.position = 'learned': sincos or sincos_rows": {"position": "learned"},
    r"config\.model\.color = 'grey': \(epoch, one of .*green": {"color": "grey"},
    r"config\.model\.color = .*epochs must rise from 0": {"color": ((5, "green"),)},
    r"config\.model\.sigmas = \(2\.0, 1\.0\)": {"sigmas": (2.0, 1.0)},
    r"config\.model\.bank = \(2, 3\): side is smaller than the grid": {"bank": (2, 3)},
    r"config\.model\.bank = \(-1, 8\)": {"bank": (-1, 8)},
    r"config\.model\.batch_shared = True: needs model\.bank": {"batch_shared": True},
}


@pytest.mark.parametrize("message", ERRORS)
def test_build_errors_name_the_config_path(message):
    with pytest.raises(UserError, match=message):
        build(**ERRORS[message])
