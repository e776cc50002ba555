"""Coloured noise: white noise through a Gaussian low-pass, high-pass, band-pass or band-stop.

After ColorMAE (Hinojosa et al. 2024); `maskjax.masking.colors` cuts masks from it.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import noise_of

Color = Literal["white", "red", "blue", "green", "purple"]
Edges = Literal["wrap", "crop"]
# Widths of the blurs in patches; documented defaults, no source gives the official ones.
SIGMAS = {"white": (), "red": (1.5,), "blue": (1.5,), "green": (0.7, 2.0), "purple": (0.7, 2.0)}
TRUNCATE = 4.0  # standard deviations after which the kernels end


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


def filter_noise(
    white: Array,
    color: Color,
    sigmas: Sequence[float] | None = None,
    *,
    edges: Edges = "wrap",
) -> Array:
    """White noise -> coloured noise, alike everywhere, the edges too.

    Red + blue, and green + purple of the same widths, give the white noise again.

    Args:
        white: float[..., H, W].
        color: see `maskjax.masking.colors`.
        sigmas: blur widths in cells; default `SIGMAS[color]`.
        edges: "wrap" filters around the ends; "crop" returns only what no end reaches.

    Returns:
        float32[..., H, W], or with "crop" float32[..., H - 2 m, W - 2 m], m = margin_of(...).

    Raises:
        ValueError: for an unknown color, unfit sigmas, or noise that cropping leaves empty.
    """
    white = jnp.asarray(white, jnp.float32)
    margin = margin_of(color, sigmas, edges)
    sides = [side - 2 * margin for side in white.shape[-2:]]
    if min(sides) < 1:
        raise ValueError(f"noise {white.shape[-2:]} is too small to crop {margin} cells on a side")
    matrix = _circulant if edges == "wrap" else partial(_banded, margin=margin)
    blurred = [
        _blur(white, *(matrix(side, sigma) for side in sides)) for sigma in widths(color, sigmas)
    ]
    inner = white[..., margin : margin + sides[0], margin : margin + sides[1]]
    return _combine(color, inner, blurred)


def margin_of(color: Color, sigmas: Sequence[float] | None = None, edges: Edges = "crop") -> int:
    """How many cells `filter_noise` takes off each side: those that the widest blur reaches.

    Raises:
        ValueError: for an unknown color, unfit sigmas, or unknown edges.
    """
    if edges not in ("wrap", "crop"):
        raise ValueError(f"edges must be 'wrap' or 'crop', got {edges!r}")
    reach = max((_radius(sigma) for sigma in widths(color, sigmas)), default=0)
    return reach if edges == "crop" else 0


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


def widths(color: Color, sigmas: Sequence[float] | None = None) -> tuple[float, ...]:
    """The blur widths that a color has: `sigmas`, or its default.

    Raises:
        ValueError: for an unknown color or unfit sigmas.
    """
    if color not in SIGMAS:
        raise ValueError(f"color must be one of {', '.join(SIGMAS)}; got {color!r}")
    found, num = tuple(SIGMAS[color] if sigmas is None else sigmas), len(SIGMAS[color])
    rising = list(found) == sorted(set(found)) and all(0 < sigma < math.inf for sigma in found)
    if len(found) != num or not rising:
        wanted = ("no blur width", "one positive blur width", "two positive, rising blur widths")
        raise ValueError(f"sigmas of {color} noise must be {wanted[num]}; got {found}")
    return found


def _radius(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


def _kernel(sigma: float) -> np.ndarray:
    """float64[2 r + 1], a sampled Gaussian of sum 1."""
    offsets = np.arange(-_radius(sigma), _radius(sigma) + 1)
    weights = np.exp(-0.5 * np.square(offsets / sigma))
    return weights / weights.sum()


def _circulant(side: int, sigma: float) -> np.ndarray:
    """float32[side, side]: blurs along one axis, around its ends."""
    row = np.zeros(side)
    np.add.at(row, np.arange(-_radius(sigma), _radius(sigma) + 1) % side, _kernel(sigma))
    shifts = np.arange(side)[None, :] - np.arange(side)[:, None]
    return row[shifts % side].astype(np.float32)


def _banded(side: int, sigma: float, margin: int) -> np.ndarray:
    """float32[side, side + 2 margin]: blurs along one axis and takes the margins off."""
    matrix = np.zeros((side, side + 2 * margin), np.float32)
    reach = np.arange(margin - _radius(sigma), margin + _radius(sigma) + 1)
    for i in range(side):
        matrix[i, i + reach] = _kernel(sigma)
    return matrix


def _blur(noise: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    # A product with small matrices: unlike an FFT it partitions over the batch without collectives.
    return jnp.einsum("hi,...ij,wj->...hw", rows, noise, columns, precision="highest")


def _combine(color: Color, white: Array, blurred: list[Array]) -> Array:
    if color == "white":
        return white
    band = blurred[0] if len(blurred) == 1 else blurred[0] - blurred[1]
    return white - band if color in ("blue", "purple") else band
