"""Masks drawn in cells coarser than the tokens (SimMIM)."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.counts import count_hidden
from maskjax.masking.noise import noise_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit

Cell = float | tuple[float, float]


def coarse(
    noise_or_key: Array, grid: tuple[int, int], *, num_visible: int, cell: Cell
) -> TokenSplit:
    """Random cells are visible, others hidden; all tokens of a cell together.

    SimMIM (Xie et al. 2022) draws cells of 32 pixels for any patch: cell = 32 / patch tokens, 8 for
    the patches of 4 pixels of a Swin, 2 for those of 16. `coarse_visible` gives its count. Where
    the cell is no whole number of tokens (patches of 14: 32 / 14), or does not divide the grid, a
    token belongs to the cell in which its centre lies. The count is exact for every K: at most one
    cell is divided, its first tokens in raster order being visible; none is, if all cells have the
    same number of tokens and that divides K.

    Args:
        noise_or_key: one typed PRNG key, or noise float[number of cells]; the cells with the
            smallest values stay visible.
        grid: (rows, columns) of tokens; N is their product.
        num_visible: K in 0..N, static.
        cell: rows and columns of tokens in a cell, >= 1; one number or two, whole or not.

    Returns:
        TokenSplit with ids int32[N], cell by cell in the order of the noise and raster order
        inside a cell, and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N or the cell is smaller than a token or larger than the
            grid.
        AssertionError: if the noise does not have one value per cell.
    """
    owner, num_cells = cell_of_tokens(grid, cell)
    noise = noise_of(noise_or_key, (num_cells,))
    if not _same_size(owner):
        return from_scores(noise[..., owner], num_visible=num_visible)
    # Sorting the cells, not the tokens, which for a Swin are 64 times as many.
    tokens = np.argsort(owner, kind="stable").reshape(num_cells, -1).astype(np.int32)
    order = jnp.argsort(noise, -1)
    return TokenSplit(jnp.asarray(tokens)[order].reshape(*noise.shape[:-1], -1), (num_visible,))


def coarse_hidden(
    noise_or_key: Array, grid: tuple[int, int], *, num_visible: int, cell: Cell
) -> Array:
    """bool[N] in raster order, True = hidden: `coarse(...).hidden()`; its arguments and errors.

    For encoders that see all tokens, mask tokens among them (SimMIM). Where all cells have the same
    number of tokens, and that divides K, nothing but the cells is sorted: 49 values and not 3,136.
    """
    owner, num_cells = cell_of_tokens(grid, cell)
    size = len(owner) // num_cells
    if not _same_size(owner) or num_visible % size or not 0 <= num_visible <= len(owner):
        return coarse(noise_or_key, grid, num_visible=num_visible, cell=cell).hidden()
    noise = noise_of(noise_or_key, (num_cells,))
    cells = from_scores(noise, num_visible=num_visible // size).hidden()
    # A constant lookup that repeats values: no gradient ever flows here.
    return cells[..., owner]


def _same_size(owner: np.ndarray) -> bool:
    """Whether all cells have the same number of tokens."""
    return len(set(np.bincount(owner))) == 1


def cell_of_tokens(grid: tuple[int, int], cell: Cell) -> tuple[np.ndarray, int]:
    """owner int32[N], the cell of each token, a constant; and the number of cells.

    Raises:
        ValueError: if the cell is smaller than a token or larger than the grid.
    """
    sides = (cell, cell) if isinstance(cell, int | float) else tuple(cell)
    if len(sides) != 2 or any(not 1 <= c <= n for c, n in zip(sides, grid, strict=True)):
        limits = f"at least 1 token and at most the grid {grid}"
        raise ValueError(f"cell {cell} must have {limits}; take `random` for cells of a token")
    rows, columns = (
        np.floor((np.arange(n) + 0.5) / c).astype(np.int32)
        for n, c in zip(grid, sides, strict=True)
    )
    across = columns[-1] + 1
    owner = rows[:, None] * across + columns
    return owner.reshape(-1), int((rows[-1] + 1) * across)


def coarse_visible(grid: tuple[int, int], cell: Cell, mask_ratio: float) -> int:
    """Visible tokens at a hidden share of `mask_ratio` of the cells: ceil(cells * ratio) hidden.

    SimMIM's rule: at 192 pixels 22 of 36 cells of 32 pixels at 0.6, at 224 pixels 30 of 49. Where
    cells differ in size the share of the tokens is the same as that of the cells, rounded.

    Raises:
        ValueError: if the ratio is outside [0, 1], or for a cell outside its range.
    """
    _, num_cells = cell_of_tokens(grid, cell)
    shown = num_cells - count_hidden(num_cells, mask_ratio, rounding="ceil")
    return round(shown * math.prod(grid) / num_cells)
