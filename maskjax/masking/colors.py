"""Masks cut from filtered ("coloured") noise (ColorMAE, Hinojosa et al. 2024).

With G_s a Gaussian blur of standard deviation s (in patches) and W white noise:

    red     G_s W                       large blobs
    blue    W - G_s W                   points spread evenly
    green   G_s1 W - G_s2 W, s1 < s2    clusters of middle size, the paper's choice
    purple  W - (G_s1 W - G_s2 W)       fine speckle among large blobs
    white   W                           MAE's random mask

The highest noise stays visible. The counts are exact: they come from ranks, not from a threshold.

The official masks are windows of a bank of such noise (`make_bank`, `colored_from_bank`). The
script that made the published banks is not public, so the widths here are ours, within the ranges
that look like the paper's pictures. `colored` needs no bank: it filters a small canvas for each
example, whose borders lie further out than the blur reaches, so the noise is stationary.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import is_key, noise_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit

Color = Literal["white", "red", "blue", "green", "purple"]
# Widths of the blurs in patches; documented defaults, no source gives the official ones.
SIGMAS = {"white": (), "red": (1.5,), "blue": (1.5,), "green": (0.7, 2.0), "purple": (0.7, 2.0)}
TRUNCATE = 4.0  # standard deviations after which the kernels end


class Window(NamedTuple):
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
) -> TokenSplit:
    """Visible tokens where filtered noise is highest, made for each example without a bank.

    Args:
        noise_or_key: one typed PRNG key, or white noise float[..., *canvas(grid, color, sigmas)].
        grid: (rows, columns) of tokens.
        num_visible: K in 0..N, static.
        color: see the top of this file.
        sigmas: blur widths in patches: one for red and blue, two (rising) for green and purple;
            default `SIGMAS[color]`.

    Returns:
        TokenSplit with ids int32[..., N] in descending order of the noise and cuts (K,).

    Raises:
        ValueError: for an unknown color, unfit sigmas, or K outside 0..N.
    """
    widths = _widths(color, sigmas)
    white = noise_of(noise_or_key, canvas(grid, color, sigmas))
    margin = _margin(widths)
    centre = white[..., margin : margin + grid[0], margin : margin + grid[1]]
    kernels = [[_banded(side, margin, s) for side in grid] for s in widths]
    noise = _combine(color, centre, [_blur(white, *pair) for pair in kernels])
    return from_scores(-_flat(noise), num_visible=num_visible)


def canvas(
    grid: tuple[int, int], color: Color = "green", sigmas: Sequence[float] | None = None
) -> tuple[int, int]:
    """(rows, columns) of the white noise that `colored` filters: the grid and a margin around it."""
    margin = _margin(_widths(color, sigmas))
    return grid[0] + 2 * margin, grid[1] + 2 * margin


def make_bank(
    noise_or_key: Array,
    color: Color = "green",
    *,
    shape: tuple[int, int, int] = (64, 256, 256),
    sigmas: Sequence[float] | None = None,
) -> Array:
    """A bank of coloured noise, each slice stretched to 0..1.

    Make it once, outside of jit, and pass it to the step as an argument, replicated; a bank that is
    closed over is baked into the program. The filters wrap around, so every window is alike.

    Args:
        noise_or_key: one typed PRNG key, or white noise float[*shape].
        color: see the top of this file.
        shape: (slices, rows, columns).
        sigmas: blur widths in patches; default `SIGMAS[color]`.

    Returns:
        float32[*shape] in [0, 1].

    Raises:
        ValueError: for an unknown color or unfit sigmas.
    """
    noise = filter_noise(noise_of(noise_or_key, tuple(shape)), color, sigmas)
    low, high = noise.min((-2, -1), keepdims=True), noise.max((-2, -1), keepdims=True)
    return (noise - low) / jnp.where(high > low, high - low, 1)


def filter_noise(white: Array, color: Color, sigmas: Sequence[float] | None = None) -> Array:
    """White noise [..., H, W] -> coloured noise float32[..., H, W]; the filters wrap around.

    Red + blue, and green + purple of the same widths, give the white noise again.

    Raises:
        ValueError: for an unknown color or unfit sigmas.
    """
    white = jnp.asarray(white, jnp.float32)
    kernels = [[_circulant(side, s) for side in white.shape[-2:]] for s in _widths(color, sigmas)]
    return _combine(color, white, [_blur(white, *pair) for pair in kernels])


def colored_from_bank(
    window_or_key: Window | Array, bank: Array, grid: tuple[int, int], *, num_visible: int
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


def draw_window(key: Array, bank_shape: Sequence[int], grid: tuple[int, int]) -> Window:
    """One window: slice, corner and flips uniform.

    Raises:
        ValueError: if the grid does not fit into the bank.
    """
    rows, columns = _free(bank_shape, grid)
    slices, place, flips = jax.random.split(key, 3)
    top, left = jax.random.randint(place, (2,), 0, jnp.array([rows, columns]))
    index = jax.random.randint(slices, (), 0, bank_shape[0])
    flip_rows, flip_columns = jax.random.bernoulli(flips, shape=(2,))
    return Window(index, top, left, flip_rows, flip_columns)


def shared_windows(
    key: Array, num: int, bank_shape: Sequence[int], grid: tuple[int, int]
) -> Window:
    """Windows of a batch as official ColorMAE draws them: image k gets slice k, the rest is shared.

    Corner and flips are drawn once for each block of as many images as the bank has slices, so the
    masks depend on the order of the batch; prefer a key for each example.

    Returns:
        Window whose fields have shape [num].

    Raises:
        ValueError: if the grid does not fit into the bank.
    """
    index = jnp.arange(num, dtype=jnp.int32)
    slices = bank_shape[0]
    keys = jax.vmap(lambda block: jax.random.fold_in(key, block))(index // slices)
    drawn = jax.vmap(lambda k: draw_window(k, bank_shape, grid))(keys)
    return drawn._replace(index=index % slices)


def take_window(bank: Array, window: Window, grid: tuple[int, int]) -> Array:
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


def radial_power(noise: Array, bins: int = 8) -> Array:
    """How much power the noise has at each frequency, averaged over directions and examples.

    Args:
        noise: float[S, H, W]; the mean of each slice is taken off.
        bins: number of equal bins of |f| from 0 to 0.5 cycles per cell.

    Returns:
        float32[bins].
    """
    centred = noise - noise.mean((-2, -1), keepdims=True)
    power = jnp.square(jnp.abs(jnp.fft.fft2(centred))).mean(0)
    vertical, horizontal = (np.fft.fftfreq(side) for side in noise.shape[-2:])
    frequency = np.hypot(vertical[:, None], horizontal)
    of_bin = np.floor(frequency * 2 * bins) == np.arange(bins)[:, None, None]
    return jnp.sum(jnp.where(of_bin, power, 0), (1, 2)) / np.maximum(of_bin.sum((1, 2)), 1)


def _widths(color: Color, sigmas: Sequence[float] | None) -> tuple[float, ...]:
    if color not in SIGMAS:
        raise ValueError(f"color must be one of {', '.join(SIGMAS)}; got {color!r}")
    widths = tuple(SIGMAS[color] if sigmas is None else sigmas)
    fits = len(widths) == len(SIGMAS[color]) and all(s > 0 for s in widths)
    if not fits or list(widths) != sorted(set(widths)):
        wanted = {0: "no", 1: "one positive", 2: "two positive, rising"}[len(SIGMAS[color])]
        raise ValueError(f"sigmas for {color} noise: {wanted} blur widths; got {widths}")
    return widths


def _free(bank_shape: Sequence[int], grid: tuple[int, int]) -> tuple[int, int]:
    """How many places a window has along each axis."""
    rows, columns = (side - cells + 1 for side, cells in zip(bank_shape[1:], grid, strict=True))
    if rows < 1 or columns < 1:
        raise ValueError(f"grid {grid} does not fit into a bank of shape {tuple(bank_shape)}")
    return rows, columns


def _margin(widths: tuple[float, ...]) -> int:
    return max((_radius(s) for s in widths), default=0)


def _radius(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


def _kernel(sigma: float) -> np.ndarray:
    """float64[2 r + 1], a sampled Gaussian of sum 1."""
    offsets = np.arange(-_radius(sigma), _radius(sigma) + 1)
    weights = np.exp(-0.5 * np.square(offsets / sigma))
    return weights / weights.sum()


def _banded(side: int, margin: int, sigma: float) -> np.ndarray:
    """float32[side, side + 2 margin]: blurs along one axis and takes the margins off."""
    matrix = np.zeros((side, side + 2 * margin), np.float32)
    first = margin - _radius(sigma)
    for row in range(side):
        matrix[row, row + first : row + first + 2 * _radius(sigma) + 1] = _kernel(sigma)
    return matrix


def _circulant(side: int, sigma: float) -> np.ndarray:
    """float32[side, side]: blurs along one axis, around its ends."""
    first = np.zeros(side)
    offsets = np.arange(-_radius(sigma), _radius(sigma) + 1)
    np.add.at(first, offsets % side, _kernel(sigma))
    shifts = np.arange(side)[None, :] - np.arange(side)[:, None]
    return first[shifts % side].astype(np.float32)


def _blur(noise: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    # A product with small matrices: unlike an FFT it partitions over the batch without collectives.
    return jnp.einsum("hi,...ij,wj->...hw", rows, noise, columns, precision="highest")


def _combine(color: Color, white: Array, blurred: list[Array]) -> Array:
    if color == "white":
        return white
    band = blurred[0] if len(blurred) == 1 else blurred[0] - blurred[1]
    return white - band if color in ("blue", "purple") else band


def _flat(noise: Array) -> Array:
    return noise.reshape(*noise.shape[:-2], -1)
