"""Relative position bias: the index of a table's rows, the bias, resampling to another grid."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

Grid = tuple[int, int]


@functools.lru_cache(maxsize=16)
def relative_index(grid: Grid, *, cls: bool = False) -> np.ndarray:
    """int32[N, N]: which row of the bias table belongs to (query, key), as in Swin and BEiT.

    With R rows and C columns, query (r, c) and key (s, d) use row (r - s + R - 1) (2 C - 1) +
    (c - d + C - 1). A class token in front has the last three rows of the table: cls to patch,
    patch to cls, cls to cls. The result is read-only.
    """
    rows, columns = np.divmod(np.arange(grid[0] * grid[1], dtype=np.int32), grid[1])
    index = (rows[:, None] - rows + grid[0] - 1) * (2 * grid[1] - 1)
    index = index + columns[:, None] - columns + grid[1] - 1
    if cls:
        first = (2 * grid[0] - 1) * (2 * grid[1] - 1)
        index = np.pad(index, ((1, 0), (1, 0)))
        index[0, :], index[:, 0], index[0, 0] = first, first + 1, first + 2
    index.setflags(write=False)
    return index


def relative_bias(table: Array, grid: Grid, *, cls: bool = False) -> Array:
    """Table [T, H] -> bias float32[H, N, N] of the attention scores: rows `relative_index`.

    By products with constant matrices of zeros and ones, which are exact: the gradient of a lookup
    would be a scatter.
    """
    (rows, columns), heads = grid, table.shape[-1]
    high, wide = 2 * rows - 1, 2 * columns - 1
    exact = {"precision": "highest", "preferred_element_type": jnp.float32}
    cells = table[: high * wide].reshape(high, wide, heads)
    cells = jnp.einsum("abh,rsa->hrsb", cells, _is_offset(rows), **exact)
    bias = jnp.einsum("hrsb,cdb->hrcsd", cells, _is_offset(columns), **exact)
    num = rows * columns
    bias = bias.reshape(heads, num, num)
    if not cls:
        return bias
    from_cls, to_cls, own = (table[high * wide + i][:, None, None] for i in range(3))
    first = jnp.concatenate([own, jnp.broadcast_to(from_cls, (heads, 1, num))], 2)
    rest = jnp.concatenate([jnp.broadcast_to(to_cls, (heads, num, 1)), bias], 2)
    return jnp.concatenate([first, rest], 1)


@functools.lru_cache(maxsize=16)
def _is_offset(size: int) -> np.ndarray:
    """float32[size, size, 2 size - 1]: 1 where the last index is query - key + size - 1."""
    offset = np.subtract.outer(np.arange(size), np.arange(size)) + size - 1
    return np.eye(2 * size - 1, dtype=np.float32)[offset]


def resize_relative(table: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """A bias table for another grid, as SimMIM and BEiT resample theirs before fine-tuning.

    Offsets near zero keep their spacing and far ones are stretched: source offsets lie at
    geometric distances 1, 1 + q, 1 + q + q^2, ... that reach the farthest offset of the new grid;
    a cubic spline through them is evaluated at whole offsets. Extra rows (cls) are kept.

    Args:
        table: float[T, H], T = (2 R - 1)(2 C - 1) + extra rows.
        old, new: (rows, columns).

    Returns:
        float[T', H].

    Raises:
        ValueError: if the table has fewer rows than the old grid has offsets, or a side of the old
            grid is 1.
    """
    from scipy.interpolate import RectBivariateSpline

    (high, wide), (tall, broad) = ((2 * r - 1, 2 * c - 1) for r, c in (old, new))
    if len(table) < high * wide:
        raise ValueError(f"a table of {len(table)} rows cannot be of a grid {old}")
    if old == new:
        return table
    if min(old) < 2:
        raise ValueError(f"a table of a grid {old} has no offsets to interpolate between")
    cells = np.asarray(table[: high * wide], np.float64).reshape(high, wide, -1)
    rows, columns = source_offsets(high, tall), source_offsets(wide, broad)
    at = whole_offsets(tall), whole_offsets(broad)
    order = min(3, high - 1), min(3, wide - 1)
    planes = [
        RectBivariateSpline(rows, columns, cells[..., h], kx=order[0], ky=order[1], s=0)(*at)
        for h in range(cells.shape[-1])
    ]
    resized = np.stack(planes, -1).reshape(tall * broad, -1).astype(table.dtype)
    return np.concatenate([resized, table[high * wide :]])


def whole_offsets(size: int) -> np.ndarray:
    """The offsets along one side of a table of `size` rows or columns: float64[size]."""
    return np.arange(size, dtype=np.float64) - size // 2


def source_offsets(source: int, target: int) -> np.ndarray:
    """Where the offsets of the old table lie among those of the new one: float[source]."""
    if source == target:
        return whole_offsets(source)
    half, low, high = source // 2, 1.01, 1.5
    while high - low > 1e-6:  # the published bisection, its bounds and its precision
        ratio = (low + high) / 2
        if (1 - ratio**half) / (1 - ratio) > target // 2:
            high = ratio
        else:
            low = ratio
    distances = np.cumsum(ratio ** np.arange(half))
    return np.concatenate([-distances[::-1], [0.0], distances])
