"""Position tables for any (rows, columns) grid, and their resampling to another grid."""

import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

Grid = tuple[int, int]
Axis = Literal["column", "row"]


@functools.lru_cache(maxsize=64)
def sincos_2d(grid: Grid, dim: int, *, cls: bool = False, first: Axis = "column") -> np.ndarray:
    """Fixed 2-D sine-cosine table of MAE: float32[N, D], or [N + 1, D] with a zero row for cls.

    The first D/2 channels encode the column, the last D/2 the row; each half is
    [sin(p w_k), cos(p w_k)] with w_k = 10000^(-k / (D/4)). Computed in float64. The result is
    read-only.

    Args:
        grid: (rows, columns) of the patch grid.
        dim: D, a multiple of 4.
        cls: puts a row of zeros in front.
        first: what the first half encodes: "column" (MAE) or "row" (CAE, MultiMAE).

    Raises:
        ValueError: if D is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sin-cos table needs a width divisible by 4, got {dim}")
    rows, columns = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    axes = (rows, columns) if first == "row" else (columns, rows)
    table = np.concatenate([_sincos_1d(axis.reshape(-1), dim // 2) for axis in axes], axis=1)
    if cls:
        table = np.concatenate([np.zeros((1, dim)), table])
    table = table.astype(np.float32)
    table.setflags(write=False)
    return table


def _sincos_1d(positions: np.ndarray, dim: int) -> np.ndarray:
    frequencies = 10000.0 ** (-np.arange(dim // 2, dtype=np.float64) / (dim / 2))
    angles = positions[:, None].astype(np.float64) * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


@functools.lru_cache(maxsize=8)
def sinusoid_1d(num: int, dim: int) -> np.ndarray:
    """Fixed table over a flattened index, of VideoMAE: float32[num, D], read-only.

    Channel j of position p is sin (even j) or cos (odd j) of p / 10000^(2 floor(j / 2) / D).
    """
    rates = 10000.0 ** (-2 * (np.arange(dim) // 2) / dim)
    angles = np.arange(num, dtype=np.float64)[:, None] * rates
    table = np.where(np.arange(dim) % 2, np.cos(angles), np.sin(angles)).astype(np.float32)
    table.setflags(write=False)
    return table


def resize_table(table: Array, old: Grid, new: Grid, *, antialias: bool = False) -> Array:
    """Bicubic resampling of a position table to another grid; extra leading rows (cls) are kept.

    Equals torch's `interpolate(mode="bicubic", align_corners=False)`, which MAE's fine-tuning and
    Hugging Face use: cubic convolution with a = -0.75, edges repeated. With `antialias` it equals
    torch's of that name, which timm uses: a = -0.5, and the kernel widens when the grid shrinks.

    Args:
        table: float[E + old rows * old columns, D], E >= 0 extra rows in front.
        old, new: (rows, columns).
        antialias: see above.

    Returns:
        float[E + new rows * new columns, D].

    Raises:
        ValueError: if the table has fewer rows than the old grid has cells.
    """
    extra = table.shape[0] - old[0] * old[1]
    if extra < 0:
        raise ValueError(f"a table of {table.shape[0]} rows cannot be of a grid {old}")
    if old == new:
        return table
    cells = bicubic(table[extra:].reshape(*old, -1), new, antialias=antialias)
    return jnp.concatenate([table[:extra], cells.reshape(new[0] * new[1], -1)])


def bicubic(maps: Array, new: Grid, *, antialias: bool = False) -> Array:
    """Maps or images float[..., rows, columns, D] at another size, as `resize_table` does it."""
    weights = _bicubic_antialias if antialias else bicubic_weights
    vertical, horizontal = (
        weights(old, size) for old, size in zip(maps.shape[-3:-1], new, strict=True)
    )
    return jnp.einsum("ri,cj,...ijd->...rcd", vertical, horizontal, maps, precision="highest")


def bicubic_weights(old: int, new: int) -> np.ndarray:
    """float32[new, old]: the weights of each old sample in each new one (Keys 1981, a = -0.75)."""
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        index = np.floor(centres).astype(int) + offset
        share = _cubic(np.abs(centres - index))
        np.add.at(weights, (np.arange(new), np.clip(index, 0, old - 1)), share)
    return weights.astype(np.float32)


def _bicubic_antialias(old: int, new: int) -> np.ndarray:
    """As `bicubic_weights`, with a = -0.5, the kernel scaled by max(1, old / new)."""
    centres, scale = (np.arange(new) + 0.5) * (old / new), max(old / new, 1.0)
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / scale
    weights = _cubic(distance, -0.5)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
