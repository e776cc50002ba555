"""Relative position bias: the index, the bias, the resampling."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.nn.relative import relative_bias, relative_index, resize_relative

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "simmim.npz"
grids = st.tuples(st.integers(1, 5), st.integers(1, 5))
few = settings(max_examples=30, deadline=None)


@few
@given(grid=grids, cls=st.booleans())
def test_pairs_with_one_offset_share_one_row(grid, cls):
    index = relative_index(grid, cls=cls)[int(cls) :, int(cls) :]
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    offsets = np.stack([np.subtract.outer(row, row), np.subtract.outer(column, column)], -1)
    rows = {}
    for offset, number in zip(offsets.reshape(-1, 2), index.reshape(-1), strict=True):
        assert rows.setdefault(tuple(offset), number) == number
    num = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    assert sorted(rows.values()) == list(range(num))


def test_cls_has_the_last_three_rows():
    index = relative_index((2, 2), cls=True)
    assert index[0, 0] == 11 and set(index[0, 1:]) == {9} and set(index[1:, 0]) == {10}
    table = jnp.arange(12.0)[:, None]
    np.testing.assert_array_equal(relative_bias(table, (2, 2), cls=True)[0], index)


@few
@given(grid=grids, cls=st.booleans())
def test_the_bias_is_the_row_of_the_index_exactly(grid, cls):
    num = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3 * cls
    table = np.random.default_rng(0).normal(size=(num, 2)).astype(np.float32)
    expected = np.moveaxis(table[relative_index(grid, cls=cls)], -1, 0)
    np.testing.assert_array_equal(relative_bias(table, grid, cls=cls), expected)


def test_the_gradient_of_the_bias_counts_pairs_and_needs_no_scatter():
    table = jnp.zeros(((2 * 3 - 1) * (2 * 2 - 1) + 3, 2))
    total = lambda table: relative_bias(table, (3, 2), cls=True).sum()  # noqa: E731
    gradient = jax.grad(total)(table)
    pairs = np.bincount(relative_index((3, 2), cls=True).reshape(-1))
    np.testing.assert_array_equal(gradient, np.stack([pairs, pairs], 1))
    assert "scatter" not in jax.jit(jax.grad(total)).lower(table).as_text()


@few
@given(old=grids.filter(lambda g: min(g) > 1), new=grids.filter(lambda g: min(g) > 1))
def test_resizing_keeps_constants_and_extra_rows(old, new):
    count = (2 * old[0] - 1) * (2 * old[1] - 1)
    table = np.concatenate([np.full((count, 2), 3.0), np.arange(6.0).reshape(3, 2)])
    resized = resize_relative(table.astype(np.float32), old, new)
    assert resized.shape == ((2 * new[0] - 1) * (2 * new[1] - 1) + 3, 2)
    np.testing.assert_allclose(resized[:-3], 3, rtol=1e-5)
    np.testing.assert_array_equal(resized[-3:], table[-3:])
    assert resize_relative(table, old, old) is table


def test_tables_that_cannot_be_resized():
    with pytest.raises(ValueError, match="cannot be of a grid"):
        resize_relative(np.zeros((8, 1)), (2, 2), (3, 3))
    with pytest.raises(ValueError, match="no offsets"):
        resize_relative(np.zeros((5, 1)), (1, 3), (3, 3))


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no {GOLDEN}")
def test_resizing_equals_the_official_one():
    with np.load(GOLDEN) as file:
        found = resize_relative(file["rpb/in"], (6, 6), (7, 7))
        np.testing.assert_allclose(found, file["rpb/out"], atol=1e-6)
        index = file["param/vit/encoder.rel_pos_bias.relative_position_index"]
    np.testing.assert_array_equal(relative_index((6, 6), cls=True), index)
