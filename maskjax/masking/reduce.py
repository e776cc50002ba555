"""Reductions over the part of an array that a mask or weight selects, in float32."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Axis = int | tuple[int, ...] | None


def masked_sum(x: Array, weight: ArrayLike, axis: Axis = None) -> tuple[Array, Array]:
    """(sum of x * weight, sum of weight) along `axis`; what stands at weight 0 may be NaN.

    Args:
        x: real[...].
        weight: real or bool, broadcastable to `x`, >= 0 (True = counts).
        axis: the reduced axes; None reduces all.
    """
    x = x.astype(jnp.float32)
    weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), x.shape)
    # Selected before the product: NaN * 0 would make the gradient of the weight NaN.
    return (jnp.where(weight > 0, x, 0) * weight).sum(axis), weight.sum(axis)


def masked_mean(x: Array, weight: ArrayLike, axis: Axis = None) -> Array:
    """Weighted mean along `axis`, 0 where nothing is selected; arguments as `masked_sum`."""
    total, count = masked_sum(x, weight, axis)
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), 0)


def masked_var(x: Array, weight: ArrayLike, axis: Axis = None, *, ddof: int = 0) -> Array:
    """Weighted variance along `axis` with divisor (sum of weight - ddof), 0 where that is not > 0.

    Two passes (mean first), so it does not cancel at large offsets. `ddof=1` is the unbiased
    variance for 0/1 weights.
    """
    total, count = masked_sum(x, weight, axis)
    axes = tuple(range(x.ndim)) if axis is None else axis
    mean = jnp.expand_dims(total / jnp.where(count > 0, count, 1), axes)
    # What is masked may be NaN; it must not reach the square, whose gradient would be NaN too.
    selected = jnp.asarray(weight, jnp.float32) > 0
    centred = jnp.where(selected, x.astype(jnp.float32), mean) - mean
    squares, _ = masked_sum(jnp.square(centred), weight, axis)
    divisor = count - ddof
    return jnp.where(divisor > 0, squares / jnp.where(divisor > 0, divisor, 1), 0)
