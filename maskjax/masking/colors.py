"""Masks cut from filtered ("coloured") noise (ColorMAE, Hinojosa et al. 2024).

With G_s a Gaussian blur of standard deviation s (in patches) and W white noise:

    red     G_s W                       large blobs
    blue    W - G_s W                   points spread evenly
    green   G_s1 W - G_s2 W, s1 < s2    clusters of middle size, the paper's choice
    purple  W - (G_s1 W - G_s2 W)       fine speckle among large blobs
    white   W                           MAE's random mask

The highest noise stays visible. The counts are exact: they come from ranks, not from a threshold.

The official masks are windows of a bank of such noise: `make_bank`, `colored_from_bank`. The script
that made the published banks is not public, so the widths (`SIGMAS`) are our defaults, not official
values. `colored` needs no bank: it filters a small canvas for each example.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.noise import is_key, noise_of
from maskjax.masking.noise_filters import Color, Edges, filter_noise, margin_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit


class BankWindow(NamedTuple):
    """Which part of a bank an example gets; `shared_windows` has a leading batch axis.

    Attributes:
        index: int32, the slice of the bank.
        top, left: int32, the corner, in 0..side - grid inclusive.
        flip_rows, flip_columns: bool, whether the part is turned upside down or mirrored.
    """

    index: Array
    top: Array
    left: Array
    flip_rows: Array
    flip_columns: Array


def colored(
    noise_or_key: Array,
    grid: tuple[int, int],
    *,
    num_visible: int,
    color: Color = "green",
    sigmas: Sequence[float] | None = None,
    edges: Edges = "crop",
) -> TokenSplit:
    """Visible tokens where filtered noise is highest, made for each example without a bank.

    Ranks within a window are not quite even, be it cut from a canvas or from a bank: with large
    blobs the rim is visible more often than the middle (red noise on 14 x 14 at 75 %: corners are
    hidden in 74 % of the masks, the middle in 76 %; other colours less than 0.3 points apart).
    `edges="wrap"` makes all tokens exactly alike; blobs then go on at the opposite side.

    Args:
        noise_or_key: one typed PRNG key, or white noise float[..., *canvas(...)].
        grid: (rows, columns) of tokens.
        num_visible: K in 0..N, static.
        color: see the top of this file.
        sigmas: blur widths in patches: one for red and blue, two (rising) for green and purple;
            default `SIGMAS[color]`.
        edges: "crop" cuts the grid out of a larger canvas, "wrap" filters around its ends.

    Returns:
        TokenSplit with ids int32[..., N] in descending order of the noise and cuts (K,).

    Raises:
        ValueError: for an unknown color, unfit sigmas, or K outside 0..N.
    """
    white = noise_of(noise_or_key, canvas(grid, color, sigmas, edges))
    noise = filter_noise(white, color, sigmas, edges=edges)
    return from_scores(-_flat(noise), num_visible=num_visible)


def canvas(
    grid: tuple[int, int],
    color: Color = "green",
    sigmas: Sequence[float] | None = None,
    edges: Edges = "crop",
) -> tuple[int, int]:
    """(rows, columns) of the white noise that `colored` filters: the grid and, to crop, margins."""
    margin = margin_of(color, sigmas, edges)
    return grid[0] + 2 * margin, grid[1] + 2 * margin


def colored_from_bank(
    window_or_key: BankWindow | Array, bank: Array, grid: tuple[int, int], *, num_visible: int
) -> TokenSplit:
    """Visible tokens where a window of the bank is highest.

    Args:
        window_or_key: one typed PRNG key (slice, corner and flips are drawn for this example
            alone), or the window. Official ColorMAE draws one window for a batch, see
            `shared_windows`.
        bank: float[slices, H, W], >= 0.
        grid: (rows, columns) of tokens, no larger than the bank.
        num_visible: K in 0..N, static.

    Returns:
        TokenSplit with ids int32[N] in descending order of the noise and cuts (K,).

    Raises:
        ValueError: if the grid does not fit into the bank, or K is outside 0..N.
    """
    window = window_or_key
    if is_key(window):
        window = draw_window(window, bank.shape, grid)
    return from_scores(-_flat(take_window(bank, window, grid)), num_visible=num_visible)


def draw_window(key: Array, bank_shape: Sequence[int], grid: tuple[int, int]) -> BankWindow:
    """One window: slice, corner and flips uniform.

    Raises:
        ValueError: if the grid does not fit into the bank.
    """
    rows, columns = _free(bank_shape, grid)
    slices, place, flips = jax.random.split(key, 3)
    top, left = jax.random.randint(place, (2,), 0, jnp.array([rows, columns]))
    index = jax.random.randint(slices, (), 0, bank_shape[0])
    flip_rows, flip_columns = jax.random.bernoulli(flips, shape=(2,))
    return BankWindow(index, top, left, flip_rows, flip_columns)


def shared_windows(
    key: Array, num: int, bank_shape: Sequence[int], grid: tuple[int, int]
) -> BankWindow:
    """Windows of a batch as official ColorMAE draws them: image k gets slice k, the rest is shared.

    Corner and flips are drawn once for each block of as many images as the bank has slices, so the
    masks depend on the order of the batch; prefer a key for each example.

    Returns:
        BankWindow whose fields have shape [num].

    Raises:
        ValueError: if the grid does not fit into the bank.
    """
    index = jnp.arange(num, dtype=jnp.int32)
    slices = bank_shape[0]
    keys = jax.vmap(lambda block: jax.random.fold_in(key, block))(index // slices)
    drawn = jax.vmap(lambda k: draw_window(k, bank_shape, grid))(keys)
    return drawn._replace(index=index % slices)


def take_window(bank: Array, window: BankWindow, grid: tuple[int, int]) -> Array:
    """float32[rows, columns]: the window, cut, then flipped, and divided by its own maximum.

    Raises:
        ValueError: if the grid does not fit into the bank.
    """
    chex.assert_rank(bank, 3)
    _free(bank.shape, grid)
    part = jax.lax.dynamic_slice(bank, (window.index, window.top, window.left), (1, *grid))[0]
    part = jnp.where(window.flip_columns, part[:, ::-1], part)
    part = jnp.where(window.flip_rows, part[::-1], part)
    # Division by a negative maximum would reverse the ranks; banks are not negative.
    return part / jnp.where(part.max() > 0, part.max(), 1)


def _free(bank_shape: Sequence[int], grid: tuple[int, int]) -> tuple[int, int]:
    """How many places a window has along each axis."""
    rows, columns = (side - cells + 1 for side, cells in zip(bank_shape[1:], grid, strict=True))
    if rows < 1 or columns < 1:
        raise ValueError(f"grid {grid} does not fit into a bank of shape {tuple(bank_shape)}")
    return rows, columns


def _flat(noise: Array) -> Array:
    return noise.reshape(*noise.shape[:-2], -1)
