"""Reductions over the part of an array that a mask or weight selects, in float32."""

from typing import Literal

import chex
import jax
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


def masked_softmax(x: Array, valid: ArrayLike, axis: int = -1) -> Array:
    """Softmax over the valid entries, 0 elsewhere, and 0 everywhere if none is valid.

    Args:
        x: real[...]; what stands at entries that are not valid may be NaN or infinite.
        valid: bool, broadcastable to `x`.
        axis: the axis that sums to 1.

    Returns:
        float32[...].
    """
    valid = jnp.broadcast_to(jnp.asarray(valid, bool), x.shape)
    x = jnp.where(valid, x.astype(jnp.float32), -jnp.inf)
    top = jax.lax.stop_gradient(x.max(axis, keepdims=True))
    # Rows with nothing valid: -inf - -inf would be NaN, in the gradient too.
    top = jnp.where(jnp.isfinite(top), top, 0)
    powers = jnp.where(valid, jnp.exp(jnp.where(valid, x - top, 0)), 0)
    total = powers.sum(axis, keepdims=True)
    return powers / jnp.where(total > 0, total, 1)


def masked_quantile(x: Array, valid: ArrayLike, q: ArrayLike, axis: int = -1) -> Array:
    """Quantile of the valid entries, interpolated linearly as `numpy.quantile`; 0 if there is none.

    Args:
        x: real[...], finite where valid.
        valid: bool, broadcastable to `x`.
        q: real[*Q] in [0, 1].
        axis: the reduced axis.

    Returns:
        float32[*Q, ...] without the axis. One sort.
    """
    valid = jnp.broadcast_to(jnp.asarray(valid, bool), x.shape)
    x = jnp.moveaxis(jnp.where(valid, x.astype(jnp.float32), jnp.inf), axis, -1)
    count = jnp.moveaxis(valid, axis, -1).sum(-1)
    ordered = jnp.sort(x, -1)
    q = jnp.asarray(q, jnp.float32)
    place = q.reshape(*q.shape, *(1,) * count.ndim) * jnp.maximum(count - 1, 0)
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.minimum(low + 1, jnp.maximum(count - 1, 0))
    ordered = jnp.broadcast_to(ordered, (*q.shape, *ordered.shape))
    at = lambda i: jnp.take_along_axis(ordered, i[..., None], -1)[..., 0]  # noqa: E731
    # With nothing valid inf stands at both places, and inf - inf is NaN.
    below, above = (jnp.where(count > 0, at(i), 0) for i in (low, high))
    return below + (place - low) * (above - below)


def segment_mean(
    x: Array,
    segments: Array,
    num_segments: int,
    weight: ArrayLike = True,
    *,
    method: Literal["scatter", "onehot"] = "scatter",
) -> tuple[Array, Array]:
    """Weighted mean of the tokens of each segment (superpixels, objects, examples of a flat row).

    Args:
        x: real[..., N, D]; what stands at weight 0 may be NaN.
        segments: int[..., N]; tokens outside of 0..S-1 (-1, say) belong to no segment.
        num_segments: S, static; segments beyond what is there are empty.
        weight: real or bool, >= 0, broadcastable to [..., N] (True = counts).
        method: "scatter" adds up in place; "onehot" is a matmul with an [N, S] matrix, for
            compilers that lower scatter badly and for sums that repeat bit by bit on a GPU.

    Returns:
        float32[..., S, D], 0 for empty segments, and float32[..., S], the sums of the weights.

    Raises:
        ValueError: for an unknown method.
        AssertionError: if the shapes do not fit.
    """
    chex.assert_shape(segments, x.shape[:-1])
    if method not in ("scatter", "onehot"):
        raise ValueError(f"method must be 'scatter' or 'onehot', got {method!r}")
    inside = (segments >= 0) & (segments < num_segments)
    weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), segments.shape) * inside
    x = jnp.where(weight[..., None] > 0, x.astype(jnp.float32), 0) * weight[..., None]
    both = jnp.concatenate([x, weight[..., None]], -1)
    sums = _segment_sum(both, jnp.where(inside, segments, 0), num_segments, method)
    total, count = sums[..., :-1], sums[..., -1]
    return total / jnp.where(count > 0, count, 1)[..., None], count


def segment_broadcast(values: Array, segments: Array) -> Array:
    """Gives each token the value of its segment, 0 if it has none.

    Args:
        values: [..., S, D].
        segments: int[..., N].

    Returns:
        [..., N, D].
    """
    chex.assert_equal_shape_prefix((values, segments), segments.ndim - 1)
    inside = (segments >= 0) & (segments < values.shape[-2])
    ids = jnp.where(inside, segments, 0)
    picked = jnp.take_along_axis(values, ids[..., None], axis=-2)
    return jnp.where(inside[..., None], picked, jnp.zeros((), values.dtype))


def _segment_sum(x: Array, segments: Array, num_segments: int, method: str) -> Array:
    if method == "onehot":
        weights = jax.nn.one_hot(segments, num_segments)
        return jnp.einsum("...ns,...nd->...sd", weights, x, precision="highest")
    one = lambda x, s: jax.ops.segment_sum(x, s, num_segments)  # noqa: E731
    for _ in range(segments.ndim - 1):
        one = jax.vmap(one)
    return one(x, segments)
