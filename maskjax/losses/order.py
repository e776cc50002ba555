"""Losses of predicted values against true ones by their order or their standardised size."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

EPS = 1e-6


def pairwise_order(prediction: Array, target: Array) -> tuple[Array, Array]:
    """Binary cross-entropy of which of two values is larger, over all pairs (HPM, relative loss).

    For every ordered pair (i, j) with target_i != target_j, with d = prediction_j - prediction_i:
    -log(sigmoid(d) + 1e-6) where target_j is larger, else -log(1 - sigmoid(d) + 1e-6). Pairs of
    equal targets, the diagonal included, count neither in the sum nor in the number (Wang et al.
    2023, "Hard Patches Mining", eq. 6, as the official code evaluates it).

    Args:
        prediction: float[..., M].
        target: float[..., M]; no gradient flows to it.

    Returns:
        (sum over pairs, number of pairs), float32[...] each.
    """
    chex.assert_equal_shape((prediction, target))
    prediction, target = prediction.astype(jnp.float32), jax.lax.stop_gradient(target)
    larger = target[..., None, :] > target[..., :, None]
    smaller = target[..., None, :] < target[..., :, None]
    share = jax.nn.sigmoid(prediction[..., None, :] - prediction[..., :, None])
    # The official code adds 1e-6 inside the logarithms, which bounds the loss of a pair.
    chosen = jnp.where(larger, share, 1 - share)
    counted = larger | smaller
    losses = jnp.where(counted, -jnp.log(chosen + EPS), 0)
    return losses.sum((-2, -1)), counted.sum((-2, -1), dtype=jnp.float32)


def standardized_error(prediction: Array, target: Array) -> Array:
    """(prediction - standardised target)^2, float32[..., M] (HPM, absolute loss).

    The target is standardised over its last axis with the unbiased variance + 1e-6; no gradient
    flows to it.
    """
    chex.assert_equal_shape((prediction, target))
    target = jax.lax.stop_gradient(target.astype(jnp.float32))
    centred = target - target.mean(-1, keepdims=True)
    scaled = centred / jnp.sqrt(target.var(-1, keepdims=True, ddof=1) + EPS)
    return jnp.square(prediction.astype(jnp.float32) - scaled)
