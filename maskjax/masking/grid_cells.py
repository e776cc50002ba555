"""Regular masks: the same pattern in every cell of the grid."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit


def grid(
    noise_or_key: Array,
    grid: tuple[int, int],
    *,
    num_visible: int,
    cell: tuple[int, int] = (2, 2),
) -> TokenSplit:
    """The same tokens of every cell stay visible: grid-wise sampling of MAE's ablation.

    MAE (He et al. 2022, figure 6 and table 1f) keeps one of every four patches, here the cell
    (2, 2) with N / 4 visible. Which ones of the cell stay is drawn for each example, a choice of
    ours (the paper does not tell of a shift), so that every position is hidden equally often.

    Args:
        noise_or_key: one typed PRNG key, or noise float[cell rows * cell columns]; the places of
            the smallest values stay visible.
        grid: (rows, columns) of tokens; N is their product.
        num_visible: K, static, a multiple of the number of cells.
        cell: (rows, columns) of tokens; divides the grid.

    Returns:
        TokenSplit with ids int32[N], place by place of the cell, and cuts (K,).

    Raises:
        ValueError: if the cell does not divide the grid, or the number of cells K.
    """
    in_cell = visible_in_cell(grid, cell, num_visible)
    noise = noise_of(noise_or_key, (math.prod(cell),))
    places = from_scores(noise, num_visible=in_cell).ids
    return TokenSplit(jnp.asarray(tokens_by_place(grid, cell))[places].reshape(-1), (num_visible,))


def visible_in_cell(grid: tuple[int, int], cell: tuple[int, int], num_visible: int) -> int:
    """How many tokens of each cell are visible.

    Raises:
        ValueError: if the cell does not divide the grid, or the number of cells K.
    """
    if min(cell) < 1 or any(n % c for n, c in zip(grid, cell, strict=True)):
        raise ValueError(f"cell {cell} does not divide the grid {grid}")
    num_cells = math.prod(grid) // math.prod(cell)
    if num_visible % num_cells or not 0 <= num_visible <= math.prod(grid):
        choices = f"take a multiple of the {num_cells} cells, up to {math.prod(grid)}"
        raise ValueError(f"num_visible {num_visible} is not the same in every cell; {choices}")
    return num_visible // num_cells


def tokens_by_place(grid: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """int32[places of a cell, cells]: the tokens that have this place in their cell."""
    ids = np.arange(math.prod(grid), dtype=np.int32)
    (rows, columns), (high, wide) = grid, cell
    cells = ids.reshape(rows // high, high, columns // wide, wide)
    return cells.transpose(1, 3, 0, 2).reshape(high * wide, -1)
