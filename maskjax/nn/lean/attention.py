"""Attention under masks that keeps query, key, value and the masks, and no weights."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maskjax.masking import attention_ops
from maskjax.nn.lean import chain, scope


class _Masks(NamedTuple):
    """As `maskjax.masking.attention_ops.weights` takes them; each broadcasts to [..., Q, K]."""

    factor: Array | None
    bias: Array | None
    allow: Array | None
    gain: Array | None


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    factor: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    allow: Array | None = None,
    gain: ArrayLike | None = None,
    scale: float | None = None,
) -> Array:
    """`maskjax.masking.attention_ops.attend`, with gradients to everything but `allow`.

    Args:
        query: [..., Q, d], heads among the leading axes.
        key, value: [..., K, d] and [..., K, e].
        factor, bias, allow, gain: arrays that broadcast to the scores [..., Q, K]; None = without.
        scale: of the scores, default d ** -0.5.

    Returns:
        [..., Q, e] in the type of `value`.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    masks = _Masks(_float(factor), _float(bias), allow, _float(gain))
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    if scope.is_on("attention") and alike:
        return _attend(scale, scope.in_unrolled(), *scope.alike(query, key, value, masks))
    return _forward(scale, query, key, value, masks)


def _float(mask: ArrayLike | None) -> Array | None:
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    return mask if jnp.issubdtype(mask.dtype, jnp.floating) else mask.astype(jnp.float32)


def _forward(scale, query, key, value, masks):
    return attention_ops.attend(query, key, value, scale=scale, **masks._asdict())


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(scale, unrolled, query, key, value, masks):
    return _forward(scale, query, key, value, masks)


def _fwd(scale, unrolled, query, key, value, masks):
    return _forward(scale, query, key, value, masks), (query, key, value, masks)


def _bwd(scale, unrolled, saved, g):
    """All matrices are [K, Q]: so four of the five products read no transposed one."""
    *operands, masks = saved
    if unrolled:
        g, operands = chain.once((g, operands))
    query, key, value = operands
    scores = _product("...kd,...qd->...kq", key, query) * scale
    logits, to_scores = jax.vjp(_logits_of(masks.allow), scores, masks.factor, masks.bias)
    softmax = jax.nn.softmax(logits, axis=-2)
    weights, to_softmax = jax.vjp(_gained, softmax, masks.gain)
    d_value = _product("...kq,...qe->...ke", weights.astype(g.dtype), g)
    d_softmax, d_gain = to_softmax(_product("...ke,...qe->...kq", value, g))
    along = (softmax * d_softmax).sum(-2, keepdims=True)
    d_scores, d_factor, d_bias = to_scores(softmax * (d_softmax - along))
    d_scores = d_scores.astype(query.dtype)
    d_query = _product("...kq,...kd->...qd", d_scores, key) * scale
    d_key = _product("...kq,...qd->...kd", d_scores, query) * scale
    d_operands = (d_query, d_key, d_value)
    d_operands = (d.astype(x.dtype) for d, x in zip(d_operands, operands, strict=True))
    return *d_operands, _Masks(d_factor, d_bias, None, d_gain)


_attend.defvjp(_fwd, _bwd)


def _logits_of(allow: Array | None):
    """(scores [..., K, Q], factor, bias) -> what the softmax over the keys sees."""
    if allow is not None:
        allow = _transposed(attention_ops.unblock_empty(jnp.atleast_1d(allow)))

    def logits(scores, factor, bias):
        masks = {"factor": _transposed(factor), "bias": _transposed(bias), "allow": allow}
        return attention_ops.logits(scores, **masks)

    return logits


def _gained(softmax: Array, gain: Array | None) -> Array:
    return softmax if gain is None else softmax * _transposed(gain)


def _transposed(mask: Array | None) -> Array | None:
    return None if mask is None else jnp.atleast_2d(mask).swapaxes(-1, -2)


def _product(pattern: str, a: Array, b: Array) -> Array:
    return jnp.einsum(pattern, a, b, preferred_element_type=jnp.float32)
