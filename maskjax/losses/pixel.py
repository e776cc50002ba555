"""Losses between predicted and true pixel values."""

import math

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


def logit_laplace(location: Array, log_scale: Array, image: Array) -> Array:
    """-log density of values whose logit has a Laplace distribution, float32[...], in nats.

    A density on 0..1, unlike Laplace's own and the normal one (Ramesh et al. 2021, appendix A.3).

    Args:
        location, log_scale: float[...], of the logit.
        image: float[...] in 0..1, but not 0 and 1 (see `nn.dalle.map_pixels`).
    """
    chex.assert_equal_shape((location, log_scale, image))
    location, log_scale, image = (x.astype(jnp.float32) for x in (location, log_scale, image))
    logit = jnp.log(image) - jnp.log1p(-image)
    distance = jnp.abs(logit - location) * jnp.exp(-log_scale)
    return distance + log_scale + math.log(2) + jnp.log(image) + jnp.log1p(-image)
