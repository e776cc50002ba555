"""Rotary positions on a grid: queries and keys are turned by angles that grow with row and column.

Su et al., "RoFormer", 2021; in two dimensions as CroCo v2 (Weinzaepfel et al. 2023) has it: the
first half of a head's channels is turned by the row, the second by the column.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

Grid = tuple[int, int]


@functools.lru_cache(maxsize=16)
def grid_positions(grid: Grid) -> np.ndarray:
    """int32[N, 2]: (row, column) of every patch in raster order; read-only."""
    positions = np.indices(grid, dtype=np.int32).reshape(2, -1).T.copy()
    positions.setflags(write=False)
    return positions


def rotary_table(positions: np.ndarray | Array, head_dim: int, base: float) -> np.ndarray | Array:
    """Cosines and sines of the angles of `rotate`: float32[..., N, 2, d].

    Channel k of a half of D = d / 2 channels turns by p base^(-2 (k mod D/2) / D), where p is the
    row for the first half and the column for the second.

    Args:
        positions: int[..., N, 2], (row, column); a NumPy array gives a NumPy array.
        head_dim: d, channels of a head, a multiple of 4.
        base: 100 in CroCo v2.

    Raises:
        ValueError: if d is no multiple of 4.
    """
    check_head(head_dim)
    half = head_dim // 2
    rates = np.tile(base ** (-2 * np.arange(half // 2) / half), 2)
    xp = np if isinstance(positions, np.ndarray) else jnp
    angles = xp.concatenate([positions[..., i, None] * rates for i in range(2)], axis=-1)
    return xp.stack([xp.cos(angles), xp.sin(angles)], axis=-2).astype(np.float32)


def check_head(head_dim: int):
    """Refuses a width of heads that cannot be turned.

    Raises:
        ValueError: if it is no multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"rotary positions need heads of a multiple of 4 channels, not {head_dim}")


def rotate(x: Array, table: Array) -> Array:
    """Queries or keys, turned: [B, H, N, d] -> the same.

    Every pair of channels (k, k + D/2) of a half of D keeps its length, and products of a query
    and a key depend on the difference of their positions only.

    Args:
        x: queries or keys; worked on in float32, given back in the type of x.
        table: of `rotary_table`, [N, 2, d] or [B, N, 2, d].
    """
    table = table[..., None, :, :, :]  # the same for all heads
    cos, sin = table[..., 0, :], table[..., 1, :]
    wide = x.astype(jnp.float32)
    quarters = wide.reshape(*wide.shape[:-1], 2, 2, -1)
    turned = jnp.stack([-quarters[..., 1, :], quarters[..., 0, :]], axis=-2).reshape(wide.shape)
    return (wide * cos + turned * sin).astype(x.dtype)
