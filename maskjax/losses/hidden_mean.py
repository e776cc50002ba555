"""The mean over what is hidden of each image, then over the images that hide something."""

import chex
import jax.numpy as jnp
from jax import Array

from maskjax.losses.term import Term


def hidden_mean(errors: Array, hidden: Array) -> Term:
    """Each image weighs the same, however much of it is hidden; one that hides nothing is left out.

    MultiMAE's reduction (Bachmann et al. 2022, code). It differs from a mean over all hidden tokens
    where images hide different numbers of them.

    Args:
        errors: float32[B, N], one value for each token.
        hidden: bool[B, N], True = counts.
    """
    chex.assert_equal_shape((errors, hidden))
    counts = hidden.sum(-1)
    means = jnp.where(hidden, errors, 0).sum(-1) / jnp.maximum(counts, 1)
    return Term(means.sum(), (counts > 0).sum().astype(jnp.float32))
