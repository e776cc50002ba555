"""Losses between predicted and true patch values."""

import chex
import jax.numpy as jnp
from jax import Array


def squared_error(prediction: Array, target: Array) -> Array:
    """Mean over a patch's values of (prediction - target)^2 (MAE, He et al. 2022, section 3).

    Args:
        prediction: float[..., P].
        target: float[..., P]; no gradient flows to it where it comes from data.

    Returns:
        float32[...], one value per patch.
    """
    chex.assert_equal_shape((prediction, target))
    difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    return jnp.square(difference).mean(-1)


def hidden_error(prediction: Array, target: Array, hidden: Array) -> Array:
    """Sum over hidden values of |prediction - target| (SimMIM, Xie et al. 2022, eq. 1).

    Args:
        prediction: float[..., P].
        target: float[..., P]; no gradient flows to it where it comes from data.
        hidden: bool, broadcastable to [..., P], True = counts.

    Returns:
        float32[...], one value per patch.
    """
    chex.assert_equal_shape((prediction, target))
    difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    return jnp.where(hidden, jnp.abs(difference), 0).sum(-1)
