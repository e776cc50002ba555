"""Pixels as network input and as target: standardised by data set, normalised by patch."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array

PATCH_EPS = 1e-6


def standardize(patches: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Patches in the network's input units: (x / 255 - mean) / std per channel, float32.

    Args:
        patches: uint8[..., P] in 0..255, channel fastest; a float array is taken as standardised
            already and only cast.
        mean, std: one value per channel, for pixel values in 0..1.

    Raises:
        AssertionError: if P is not a multiple of the number of channels.
    """
    if jnp.issubdtype(patches.dtype, jnp.floating):
        return patches.astype(jnp.float32)
    mean, std = _per_value(mean, patches), _per_value(std, patches)
    return (patches.astype(jnp.float32) - 255 * mean) * (1 / (255 * std)).astype(np.float32)


def unstandardize(patches: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """The inverse of `standardize`: float32[..., P] pixel values in 0..1 units (not clipped)."""
    return patches.astype(jnp.float32) * _per_value(std, patches) + _per_value(mean, patches)


def from_unit(patches: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """The inverse of `unstandardize`: pixel values [..., P] in 0..1 -> float32 network units."""
    return (patches.astype(jnp.float32) - _per_value(mean, patches)) / _per_value(std, patches)


def restandardize(
    patches: Array,
    mean: Sequence[float],
    std: Sequence[float],
    new_mean: Sequence[float],
    new_std: Sequence[float],
) -> Array:
    """From the units of one network to those of another, whose statistics differ.

    Args:
        patches: as of `standardize`: uint8 pixels, or floats in the units of the first network.
        mean, std: of the first network.
        new_mean, new_std: of the other one.

    Returns:
        float32[..., P].
    """
    if (tuple(mean), tuple(std)) == (tuple(new_mean), tuple(new_std)):
        return standardize(patches, mean, std)
    if jnp.issubdtype(patches.dtype, jnp.floating):
        return from_unit(unstandardize(patches, mean, std), new_mean, new_std)
    return standardize(patches, new_mean, new_std)


def _per_value(channels: Sequence[float], patches: Array) -> np.ndarray:
    chex.assert_is_divisible(patches.shape[-1], len(channels))
    return np.tile(np.asarray(channels, np.float32), patches.shape[-1] // len(channels))


def patch_moments(patches: Array) -> tuple[Array, Array]:
    """Mean and standard deviation [..., 1] of each patch over all its values and channels.

    The variance is unbiased (divisor P - 1) and has 1e-6 added, as in MAE's `norm_pix_loss`.
    """
    patches = patches.astype(jnp.float32)
    variance = patches.var(-1, keepdims=True, ddof=1)
    return patches.mean(-1, keepdims=True), jnp.sqrt(variance + PATCH_EPS)


def normalize_patches(patches: Array) -> Array:
    """(patch - mean) / std with `patch_moments`: constant patches give zeros. float32[..., P]."""
    mean, std = patch_moments(patches)
    return (patches.astype(jnp.float32) - mean) / std


def denormalize_patches(prediction: Array, patches: Array) -> Array:
    """Undoes `normalize_patches` for a prediction, with the moments of the true `patches`."""
    mean, std = patch_moments(patches)
    return prediction.astype(jnp.float32) * std + mean
