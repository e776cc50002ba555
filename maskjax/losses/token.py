"""Losses of predicted tokens and classes: logits against ids, or against soft targets."""

import math

import chex
import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(logits: Array, ids: Array) -> Array:
    """-log softmax(logits)[id], float32[...].

    The logit of the id is read by comparison, not by index: its gradient has no scatter.

    Args:
        logits: float[..., V].
        ids: int[...], in 0 .. V - 1.
    """
    chex.assert_equal_shape_prefix((logits, ids), ids.ndim)
    logits = logits.astype(jnp.float32)
    chosen = jnp.arange(logits.shape[-1]) == ids[..., None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.where(chosen, logits, 0).sum(-1)


def divergence_from_uniform(logits: Array) -> Array:
    """KL divergence of softmax(logits) from all V alike, in nats: logits [..., V] -> float32[...].

    log V - entropy: 0 for equal logits, log V at most. The prior of a discrete VAE is uniform.
    """
    log_shares = jax.nn.log_softmax(logits.astype(jnp.float32))
    return (jnp.exp(log_shares) * log_shares).sum(-1) + math.log(logits.shape[-1])


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """-sum_k target_k log softmax(logits)_k, float32[...]: labels that are mixed or smoothed.

    Args:
        logits: float[..., K].
        targets: float[..., K], each row a distribution.
    """
    chex.assert_equal_shape((logits, targets))
    return -(targets * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)
