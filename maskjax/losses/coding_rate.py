"""Coding rate of tokens, what CRATE's layers are built to lower; here a measure, not a loss."""

import chex
import jax.numpy as jnp
from jax import Array


def coding_rate(tokens: Array, eps: float = 0.5) -> Array:
    """R(Z) = 1/2 log det(I + P / (N eps^2) Z^T Z), float32[...], in nats.

    How many nats the N tokens cost together, at a distortion of eps (Ma et al. 2007; Yu et al.
    2020, eq. 7). Over the coordinates in each of K subspaces, the sum is CRATE's R^c (Pai et al.
    2024, eq. 5).

    Args:
        tokens: float[..., N, P].
        eps: distortion; the default is ours.
    """
    chex.assert_axis_dimension_gt(tokens, -2, 0)
    tokens = tokens.astype(jnp.float32)
    num, dim = tokens.shape[-2:]
    gram = jnp.einsum("...np,...nq->...pq", tokens, tokens)
    _, value = jnp.linalg.slogdet(jnp.eye(dim) + dim / (num * eps**2) * gram)
    return value / 2
