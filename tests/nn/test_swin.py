"""Swin: windows and their shifts, regions, merging, what its sizes say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from maskjax.nn import flops, swin
from maskjax.nn.swin import SwinEncoder, SwinSize
from maskjax.nn.swin_block import PatchMerging, SwinBlock, region_bias, window_of
from maskjax.nn.variant_block import Variant, VariantBlock
from maskjax.nn.vit import Compute, Size

DIM, GRID = 8, (4, 8)
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, DIM)), jnp.float32)


def block(shift, **options):
    module = SwinBlock(2, 16, GRID, 4, shift, **options)
    shapes = jax.eval_shape(module.init, jax.random.key(0), X)
    return module, {"params": tiny.filled(shapes["params"])}


def test_5_windows_and_shift_are_undone():
    for shift in (0, 1, 2):
        module = SwinBlock(2, 16, GRID, 4, shift)
        np.testing.assert_array_equal(module._from_windows(module._to_windows(X)), X)
    windows = SwinBlock(2, 16, GRID, 4, 1)._to_windows(jnp.arange(32.0).reshape(1, 32, 1))
    assert windows.shape == (1, 2, 16, 1)
    assert windows[0, 0, :4, 0].tolist() == [9, 10, 11, 12]
    assert windows[0, 1, -4:, 0].tolist() == [5, 6, 7, 0]


def test_5_regions_do_not_see_each_other():
    bias = region_bias((8, 8), 4, 2)
    assert bias.shape == (4, 16, 16) and not bias[0].any()
    corner = (bias[3] == 0).reshape(4, 4, 4, 4)  # the last window holds four regions
    for r, c, s, d in np.ndindex(4, 4, 4, 4):
        assert corner[r, c, s, d] == ((r < 2) == (s < 2) and (c < 2) == (d < 2))
    module, params = block(2)
    weights = np.asarray(module.apply(params, X)[1]["attention"])
    apart = np.broadcast_to(region_bias(GRID, 4, 2)[None, :, None] != 0, weights.shape)
    assert apart.any() and weights[apart].max() < 1e-30
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert weights[~apart].min() > 1e-6


@pytest.mark.parametrize("shift", [0, 2])
def test_a_token_is_seen_in_its_window_only(shift):
    """By gradient: token 0 reaches the tokens of its window, of its region when shifted."""
    module, params = block(shift)
    picked = lambda x: module.apply(params, x)[0][0, 0].sum()  # noqa: E731
    reached = np.asarray(jax.grad(picked)(X)[0] != 0).any(-1).reshape(GRID)
    rows, columns = np.nonzero(reached)
    side = 4 if shift == 0 else 2
    assert sorted(set(rows)) == list(range(side)) == sorted(set(columns))
    assert reached.sum() == side**2


def test_one_window_over_the_grid_is_a_block_with_relative_bias():
    grid, x = (4, 4), X[:, :16]
    module = SwinBlock(2, 16, grid, 4, eps=1e-6)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    params = tiny.filled(shapes)
    whole = VariantBlock(2, 16, Variant(relative=grid, cls=False))
    found, seen = module.apply({"params": params}, x)
    expected, other = whole.apply({"params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen["attention"][:, 0], other["attention"], rtol=1e-5, atol=1e-6)


def test_merging_takes_the_four_column_by_column():
    grid = (2, 4)
    merging = PatchMerging(grid, eps=1e-12)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 8, 3)), jnp.float32)
    params = tiny.filled(jax.eval_shape(merging.init, jax.random.key(0), x)["params"])
    params["norm"] = {"scale": jnp.ones(12), "bias": jnp.zeros(12)}
    cells = np.asarray(x).reshape(2, 4, 3)
    four = np.concatenate([cells[0, 2], cells[1, 2], cells[0, 3], cells[1, 3]])
    normed = (four - four.mean()) / four.std()
    found = merging.apply({"params": params}, x)
    assert found.shape == (1, 2, 6)
    expected = normed @ np.asarray(params["reduction"]["kernel"])
    np.testing.assert_allclose(found[0, 1], expected, rtol=1e-4, atol=1e-5)


def test_windows_of_grids():
    assert window_of((8, 8), 4) == (4, 2)
    assert window_of((14, 14), 7) == (7, 3)
    assert window_of((4, 8), 4) == (4, 0)
    assert window_of((2, 2), 4) == (2, 0)


def test_sizes():
    size = SwinSize(16, (2, 2, 4), (2, 4, 8), 4)
    assert size.num_features == 64 and size.reduction == 4
    assert size.grids((16, 32)) == ((16, 32), (8, 16), (4, 8))
    assert size.slices() == (slice(0, 2), slice(2, 4), slice(4, 8))
    assert size.stage(1) == Size(32, 2, 4)
    with pytest.raises(ValueError, match=r"\(9, 16\) cannot be merged"):
        size.grids((18, 32))
    with pytest.raises(ValueError, match=r"windows of 4 do not divide a grid of \(10, 16\)"):
        SwinSize(16, (2,), (2,), 4).grids((10, 16))


def test_flops_of_one_window_are_those_of_a_transformer():
    size = SwinSize(16, (2, 2), (2, 2), 4)
    wide = SwinSize(16, (2, 2), (2, 2), 8)
    whole = flops.linear(64, 12, 16) + flops.transformer(64, Size(16, 2, 2))
    rest = flops.linear(16, 64, 32) + flops.transformer(16, Size(32, 2, 2))
    assert swin.forward_flops(wide, (8, 8), 12) == whole + rest
    saved = 2 * 2 * 2 * (64 * 64 - 64 * 16) * 16  # attention over 16 tokens instead of 64
    assert swin.forward_flops(size, (8, 8), 12) == whole + rest - saved


@pytest.fixture(scope="module")
def encoder():
    size = SwinSize(DIM, (2, 1), (2, 2), 2, 2.0)
    module = SwinEncoder(size, (4, 4), 12, Compute(scan=False), True, drop_path=0.4)
    patches = jnp.asarray(np.random.default_rng(2).normal(size=(2, 16, 12)), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), patches, hidden=None)["params"]
    return module, {"params": tiny.filled(shapes)}, patches


def test_drop_path_grows_over_all_stages(encoder):
    """Rates 0, 0.2, 0.4: noise of 0.3 drops the branches of the last block, and no others."""
    module, params, patches = encoder
    taps = ("0/block", "0/merge", "1/block")
    noise = jnp.full((2, 3, 2), 0.3)
    run = jax.jit(lambda noise: module.apply(params, patches, taps=taps, drop_noise=noise)[1])
    seen, plain = run(noise), jax.jit(lambda: module.apply(params, patches, taps=taps)[1])()
    np.testing.assert_allclose(seen["1/block"][0], seen["0/merge"], atol=1e-6)
    np.testing.assert_allclose(seen["0/block"][0], plain["0/block"][0], atol=1e-5)
    assert not np.isclose(seen["0/block"][1], plain["0/block"][1]).all()


def test_what_it_cannot_do(encoder):
    module, params, patches = encoder
    with pytest.raises(ValueError, match="unknown taps"):
        module.apply(params, patches, taps=("2/block",))
    without = SwinEncoder(module.size, module.grid, 12)
    with pytest.raises(ValueError, match="mask token"):
        without.apply(params, patches, hidden=jnp.zeros((2, 16), bool))
    with pytest.raises(ValueError, match="takes no mask"):
        SwinBlock(2, 16, GRID, 4).init(jax.random.key(0), X, None, jnp.ones((1, 1), bool))
