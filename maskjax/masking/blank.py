"""What stands in for hidden pixels where a network can only take whole images."""

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.windows import sum_in_window, window

REACH, SIGMA = 2, 1.0
_TAPS = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / (2 * SIGMA**2))
_TAPS = (_TAPS / _TAPS.sum()).astype(np.float32)


def blank(x: Array, valid: Array, colour: Array | float = 0.0) -> Array:
    """One colour at hidden pixels.

    Args:
        x: [B, H, W, C].
        valid: bool[B, H, W], True = visible.
        colour: [C] or a number; 0 is the mean of the data where images are standardised ("grey").

    Returns:
        [B, H, W, C].
    """
    chex.assert_type(valid, bool)
    chex.assert_shape(valid, x.shape[:3])
    return jnp.where(valid[..., None], x, jnp.asarray(colour, x.dtype))


def blank_smooth(x: Array, valid: Array, colour: Array | float = 0.0) -> Array:
    """As `blank`, with the edge smoothed inside the hidden region: a 5 x 5 Gaussian of sigma 1.

    A baseline of layer masking (Balasubramanian and Feizi 2023): no sharp edge shows where the
    region is. At the border of the image the filter counts what is inside.
    """
    filled = blank(x, valid, colour)
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    smooth = _gaussian(filled) / _gaussian(ones)
    return jnp.where(valid[..., None], x, smooth.astype(x.dtype))


def _gaussian(x: Array) -> Array:
    """Separable filter with zeros outside."""
    for axis in (1, 2):
        pads = [(0, 0)] * x.ndim
        pads[axis] = (REACH, REACH)
        padded, size = jnp.pad(x, pads), x.shape[axis]
        shifted = (tap * jnp.take(padded, np.arange(size) + i, axis) for i, tap in enumerate(_TAPS))
        x = sum(shifted)
    return x


def share_visible(valid: Array, patch: int) -> Array:
    """float32[B, N]: the share of visible pixels of each patch, of valid bool[B, H, W]."""
    place = window(patch, stride=patch)
    counts = sum_in_window(valid[..., None].astype(jnp.float32), place) / patch**2
    return counts.reshape(valid.shape[0], -1)
