"""Loss terms as (sum, weight) pairs, exact under sharding and gradient accumulation."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Term(NamedTuple):
    """One term of a loss: coefficient * sum / weight over the whole global batch.

    Attributes:
        sum: float32 scalar, the weighted sum over what this call saw.
        weight: the sum of weights: a Python number where it is known from shapes, else a float32
            scalar. It never carries a gradient.
        coefficient: factor of this term in the total.
    """

    sum: Array
    weight: Array | float
    coefficient: Array | float = 1.0


def total(terms: Mapping[str, Term], weights: Mapping[str, Array | float] | None = None) -> Array:
    """Sum over the terms of coefficient * sum / weight, float32; a term of weight 0 counts 0.

    Args:
        terms: named terms of one (micro-)batch.
        weights: what to divide by instead of each term's own weight: the weights of the whole
            batch, when `terms` are those of one micro-batch.

    Raises:
        ValueError: if there are no terms.
    """
    if not terms:
        raise ValueError("a phase returned no loss terms")
    value = jnp.float32(0)
    for name, term in terms.items():
        weight = jax.lax.stop_gradient(jnp.float32(weights[name] if weights else term.weight))
        share = jnp.where(weight > 0, term.sum / jnp.where(weight > 0, weight, 1), 0)
        value += jnp.float32(term.coefficient) * share
    return value
