"""Depth maps as network input and target."""

import jax.numpy as jnp
from jax import Array

EPS = 1e-6


def standardize_depth(depth: Array, *, eps: float = EPS, holes: bool = False) -> Array:
    """(depth - mean) / sqrt(var + eps) with the moments of the middle 80 % of an image's values.

    Whatever scale and offset a depth has, the result is the same (but for eps). MultiMAE (Bachmann
    et al. 2022): of the n sorted values those from int(0.1 n) to int(0.9 n) count; the variance is
    unbiased.

    Args:
        depth: float[B, H, W, 1].
        eps: added to the variance; 1e-6 in the official code, which sees no flat depth.
        holes: whether 0 means "not measured", as in the files of depth cameras: such pixels do not
            count, and become 0. Ours: pseudo labels have none.

    Returns:
        float32, the same shape.
    """
    depth = depth.astype(jnp.float32)
    flat = depth.reshape(len(depth), -1)
    known = flat != 0 if holes else jnp.ones(flat.shape, bool)
    values = jnp.sort(jnp.where(known, flat, jnp.inf), axis=-1)  # what is unknown comes last
    num = known.sum(-1, keepdims=True)
    rank = jnp.arange(flat.shape[-1])
    low, high = (jnp.floor(share * num.astype(jnp.float32)) for share in (0.1, 0.9))
    middle = (rank >= low) & (rank < high)
    count = jnp.maximum(middle.sum(-1, keepdims=True), 1)
    values = jnp.where(middle, values, 0)
    mean = values.sum(-1, keepdims=True) / count
    squares = jnp.where(middle, jnp.square(values - mean), 0).sum(-1, keepdims=True)
    variance = squares / jnp.maximum(count - 1, 1)
    standard = (flat - mean) / jnp.sqrt(variance + eps)
    return jnp.where(known, standard, 0).reshape(depth.shape)
