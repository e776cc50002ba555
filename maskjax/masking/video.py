"""Masks of video, over a grid (time, rows, columns): tubes and running cells (VideoMAE V2)."""

import math

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.counts import count_hidden
from maskjax.masking.noise import is_key, noise_of
from maskjax.masking.sampling import Order, random
from maskjax.masking.split import TokenSplit

Grid3 = tuple[int, int, int]


def tube(
    noise_or_key: Array, grid: Grid3, *, num_visible: int, order: Order = "noise"
) -> TokenSplit:
    """The same random places are visible at every time step: the encoder's mask of VideoMAE.

    Wang et al. 2023 (VideoMAE V2), section 3. `tube_visible` gives the official count.

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., rows * columns]; the places of the
            smallest values stay visible.
        grid: (T, rows, columns) of tokens; N is their product.
        num_visible: K in 0..N, static, a multiple of T.
        order: "noise" or "raster" inside each time step; with "raster" the visible tokens stand in
            the order in which VideoMAE's boolean indexing takes them.

    Returns:
        TokenSplit with ids int32[..., N], each part time step by time step, and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N or no multiple of T, or `order` is unknown.
    """
    steps, rows, columns = grid
    check_tube(grid, num_visible)
    split = random(noise_or_key, (rows, columns), num_visible=num_visible // steps, order=order)
    starts = jnp.arange(steps, dtype=jnp.int32)[:, None] * (rows * columns)
    parts = [split.part(i)[..., None, :] + starts for i in range(2)]
    flat = [part.reshape(*part.shape[:-2], -1) for part in parts]
    return TokenSplit(jnp.concatenate(flat, -1), (num_visible,))


def check_tube(grid: Grid3, num_visible: int):
    """Refuses a count that is not the same at every time step.

    Raises:
        ValueError: if `num_visible` is outside 0..N or no multiple of T.
    """
    _check_count("the time steps", num_visible, grid[0], math.prod(grid))


def tube_visible(grid: Grid3, mask_ratio: float) -> int:
    """Visible tokens of a tube mask: T * (places - int(places * ratio)); 8 * 20 of 1568 at 0.9.

    Raises:
        ValueError: unless 0 <= mask_ratio <= 1.
    """
    places = grid[1] * grid[2]
    return grid[0] * (places - count_hidden(places, mask_ratio))


def running_cell(
    noise_or_key: Array, grid: Grid3, *, num_visible: int, cell: tuple[int, int] = (2, 2)
) -> TokenSplit:
    """Which tokens the decoder predicts: a pattern in every cell that rotates through time.

    VideoMAE V2's decoder mask. A cell of c places has the pattern q, c * ratio ones (dropped) and
    then zeros (predicted). With a start s in 0..c-1, place i (in raster order) has at time step t
    the value q[(i + s + t + 1) mod c]; all cells are alike. So over any c time steps every place is
    predicted equally often.

    This split is independent of the encoder's: predicted tokens that the encoder saw are queries
    all the same, with no weight in the loss (`encoder.hidden()[decoder.visible_ids]` is the
    weight). A decoder ratio of 0 means in VideoMAE V2 that all tokens hidden by the encoder are
    predicted: take the encoder's `hidden_ids` then.

    Args:
        noise_or_key: one typed PRNG key, noise float[] in [0, 1) with s = floor(c * noise), or the
            start itself, int[].
        grid: (T, rows, columns) of tokens; N is their product.
        num_visible: K, static: the predicted tokens; K / N of a cell must be a whole number.
        cell: (rows, columns) of tokens; divides the grid.

    Returns:
        TokenSplit with ids int32[N], predicted | dropped, each in raster order, and cuts (K,).

    Raises:
        ValueError: if the cell does not divide rows and columns, or K / N of a cell is not whole.
    """
    places = math.prod(cell)
    ids = jnp.asarray(running_cell_ids(grid, cell, num_visible))
    if is_key(noise_or_key) or jnp.issubdtype(noise_or_key.dtype, jnp.floating):
        noise = noise_of(noise_or_key, ())
        start = jnp.minimum((noise * places).astype(jnp.int32), places - 1)
    else:
        start = noise_or_key % places
    chex.assert_rank(start, 0)
    # A product with a one-hot vector, since a batched look-up would be a gather of whole rows.
    chosen = jnp.arange(places) == start
    return TokenSplit(jnp.where(chosen[:, None], ids, 0).sum(0), (num_visible,))


def running_cell_ids(grid: Grid3, cell: tuple[int, int], num_visible: int) -> np.ndarray:
    """int32[c, N]: the ids of `running_cell` for each start, constants.

    Raises:
        ValueError: as `running_cell`.
    """
    (steps, rows, columns), places = grid, math.prod(cell)
    if min(cell) < 1 or rows % cell[0] or columns % cell[1]:
        raise ValueError(f"cell {cell} does not divide {rows} x {columns} tokens of {grid}")
    _check_count("the cells", num_visible, math.prod(grid) // places, math.prod(grid))
    predicted = num_visible * places // math.prod(grid)
    pattern = np.arange(places) < places - predicted
    index = np.arange(places) + np.arange(places)[:, None, None] + np.arange(steps)[:, None] + 1
    dropped = pattern[index % places].reshape(places, steps, *cell)
    maps = np.tile(dropped, (1, 1, rows // cell[0], columns // cell[1]))
    return np.argsort(maps.reshape(places, -1), axis=1, kind="stable").astype(np.int32)


def _check_count(what: str, num_visible: int, divisor: int, num_tokens: int):
    if not 0 <= num_visible <= num_tokens or num_visible % divisor:
        choices = f"take a multiple of {divisor}, up to {num_tokens}"
        raise ValueError(f"num_visible {num_visible} does not divide evenly over {what}; {choices}")
