"""Features of a teacher as targets: normalised, so that their scale does not rule the loss."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

Norm = Literal["none", "whiten", "l2", "bn"]
NORMS = get_args(Norm)


def normalized(features: Array, norm: Norm) -> Array:
    """Features float[..., D] -> float32[..., D], by the norm of that name.

    "none", "whiten" (see `whiten`), "l2" (see `unit`) or "bn" (see `standardize_all`).

    Raises:
        ValueError: for an unknown norm.
    """
    laws = {"none": jnp.float32, "whiten": whiten, "l2": unit, "bn": standardize_all}
    if norm not in laws:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    return laws[norm](features)


def whiten(features: Array, eps: float = 1e-5) -> Array:
    """Each token to mean 0 and variance 1 over its channels: a LayerNorm without parameters.

    Args:
        features: float[..., D].
        eps: added to the biased variance; 1e-5 is torch's default.

    Returns:
        float32[..., D].
    """
    x = features.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps)


def unit(features: Array, eps: float = 1e-12) -> Array:
    """Each token divided by max(its length, eps), float32[..., D]; zeros stay zeros."""
    x = features.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), eps**2))


def standardize_all(features: Array, eps: float = 1e-6) -> Array:
    """(x - mean) / sqrt(unbiased variance + eps) over all values: it ties a batch together."""
    x = features.astype(jnp.float32)
    return (x - x.mean()) * jax.lax.rsqrt(x.var(ddof=1) + eps)
