"""Sin-cos tables and their resampling."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from maskjax.nn.position import resize_table, sincos_2d


@pytest.mark.parametrize("grid", [(3, 5), (5, 3), (1, 4), (4, 4)])
@pytest.mark.parametrize("first", ["column", "row"])
def test_the_formula_of_the_sheet(grid, first):
    dim = 24
    table = sincos_2d(grid, dim, first=first)
    assert table.shape == (grid[0] * grid[1], dim)
    assert table.dtype == np.float32
    quarter = dim // 4
    for row in range(grid[0]):
        for column in range(grid[1]):
            expected = []
            for position in (column, row) if first == "column" else (row, column):
                angles = [position * 10000 ** (-k / quarter) for k in range(quarter)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            np.testing.assert_array_equal(
                table[row * grid[1] + column], np.asarray(expected, np.float32)
            )


def test_the_class_token_has_a_row_of_zeros():
    table = sincos_2d((3, 5), 8, cls=True)
    assert not table[0].any()
    np.testing.assert_array_equal(table[1:], sincos_2d((3, 5), 8))


def test_a_table_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        sincos_2d((2, 2), 8)[0] = 1


@pytest.mark.parametrize("dim", [6, 9])
def test_the_width_must_be_a_multiple_of_four(dim):
    with pytest.raises(ValueError, match=f"divisible by 4, got {dim}"):
        sincos_2d((2, 2), dim)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def by_hand(cells: np.ndarray, new: tuple[int, int]) -> np.ndarray:
    """Cubic convolution, one output value after the other."""
    old = cells.shape[:2]
    out = np.zeros((*new, cells.shape[2]))
    for r in range(new[0]):
        for c in range(new[1]):
            y, x = (r + 0.5) * old[0] / new[0] - 0.5, (c + 0.5) * old[1] / new[1] - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    source = cells[min(max(i, 0), old[0] - 1), min(max(j, 0), old[1] - 1)]
                    out[r, c] += cubic(y - i) * cubic(x - j) * source
    return out


@pytest.mark.parametrize(
    ("old", "new"), [((4, 6), (7, 3)), ((3, 3), (6, 6)), ((5, 4), (2, 2)), ((1, 2), (3, 5))]
)
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_resize_is_cubic_convolution(old, new, extra):
    table = np.random.default_rng(0).normal(size=(extra + old[0] * old[1], 3)).astype(np.float32)
    out = resize_table(jnp.asarray(table), old, new)
    np.testing.assert_array_equal(out[:extra], table[:extra])
    expected = by_hand(table[extra:].reshape(*old, 3), new)
    np.testing.assert_allclose(out[extra:].reshape(*new, 3), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [((4, 6), (7, 3)), ((14, 14), (16, 24))])
def test_resize_equals_torch(old, new):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(old[0] * old[1], 5)).astype(np.float32)
    grid = torch.from_numpy(table.reshape(1, *old, 5)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    expected = expected.permute(0, 2, 3, 1).reshape(-1, 5).numpy()
    out = resize_table(jnp.asarray(table), old, new)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_the_same_grid_is_the_identity_and_a_constant_stays():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(1 + 12, 3)))
    np.testing.assert_array_equal(resize_table(table, (3, 4), (3, 4)), table)
    constant = resize_table(jnp.full((12, 2), 0.7), (3, 4), (5, 9))
    np.testing.assert_allclose(constant, 0.7, rtol=1e-6)


def test_a_table_too_small_for_its_grid():
    with pytest.raises(ValueError, match=r"11 rows cannot be of a grid \(3, 4\)"):
        resize_table(jnp.zeros((11, 2)), (3, 4), (4, 4))
