"""Coding rate of tokens, what CRATE's layers are built to lower; here a measure, not a loss."""

import chex
import jax
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
    return _log_determinant(jnp.eye(dim) + dim / (num * eps**2) * gram) / 2


def _log_determinant(matrix: Array) -> Array:
    """Of positive definite matrices [..., P, P], by elimination: their pivots are positive.

    Unlike a call of LAPACK this partitions over the batch.
    """

    def eliminate(i: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, total = found
        row = jnp.take(rest, i, axis=-2)
        pivot = jnp.take(row, i, axis=-1)[..., None]
        rest = rest - row[..., :, None] * (row / pivot)[..., None, :]
        return rest, total + jnp.log(pivot[..., 0])

    start = (matrix, jnp.zeros(matrix.shape[:-2]))
    return jax.lax.fori_loop(0, matrix.shape[-1], eliminate, start)[1]
