"""Depth maps as network input and target."""

import jax.numpy as jnp
from jax import Array

EPS = 1e-6


def standardize_depth(depth: Array) -> Array:
    """(depth - mean) / sqrt(var + 1e-6) with the moments of the middle 80 % of an image's values.

    Whatever scale and offset a depth has, the result is the same. MultiMAE (Bachmann et al. 2022):
    of the sorted values those from int(0.1 n) to int(0.9 n) count; the variance is unbiased.

    Args:
        depth: float[B, H, W, 1].

    Returns:
        float32, the same shape.
    """
    depth = depth.astype(jnp.float32)
    values = jnp.sort(depth.reshape(len(depth), -1), axis=-1)
    num = values.shape[-1]
    middle = values[:, int(0.1 * num) : int(0.9 * num)]
    mean, variance = middle.mean(-1), middle.var(-1, ddof=1)
    shape = (-1, *(1,) * (depth.ndim - 1))
    return (depth - mean.reshape(shape)) / jnp.sqrt(variance + EPS).reshape(shape)
