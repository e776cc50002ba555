"""LayerNorm that keeps its input, and two numbers per row."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.lean import chain, scope


def layer_norm(x: Array, scale: Array, bias: Array, *, eps: float, dtype: DTypeLike) -> Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis, in float32.

    Args:
        x: float[..., D].
        scale, bias: float32[D].
        eps: added to the variance.
        dtype: of the result.

    Returns:
        [..., D].
    """
    if scope.is_on("norm"):
        return _layer_norm(eps, dtype, scope.in_unrolled(), *scope.alike(x, scale, bias))
    return _forward(eps, dtype, x, scale, bias)[0]


def _forward(eps, dtype, x, scale, bias):
    x = x.astype(jnp.float32)
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)
    return (centred * inverse * scale + bias).astype(dtype), mean[..., 0], inverse[..., 0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _layer_norm(eps, dtype, unrolled, x, scale, bias):
    return _forward(eps, dtype, x, scale, bias)[0]


def _fwd(eps, dtype, unrolled, x, scale, bias):
    y, mean, inverse = _forward(eps, dtype, x, scale, bias)
    return y, (x, mean, inverse, scale)


def _bwd(eps, dtype, unrolled, saved, g):
    *rows, scale = saved
    if unrolled:
        g, rows = chain.once((g, rows))
    x, mean, inverse = rows
    g = g.astype(jnp.float32)
    inverse = inverse[..., None]
    unit = (x.astype(jnp.float32) - mean[..., None]) * inverse
    batch = tuple(range(x.ndim - 1))
    d_unit = g * scale
    along = (d_unit * unit).mean(-1, keepdims=True)
    d_x = inverse * (d_unit - d_unit.mean(-1, keepdims=True) - unit * along)
    return d_x.astype(x.dtype), (g * unit).sum(batch), g.sum(batch)


_layer_norm.defvjp(_fwd, _bwd)
