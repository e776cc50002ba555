"""The matrix product of a layer, with a cheap elementwise function in front of it if wanted."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from maskjax.nn.lean import chain, scope

# Of the results to keep, for `jax.checkpoint` policies.
NAME = "dense"
# Elementwise, arrays of one shape -> one array; computed twice, so it should be cheap. It works and
# answers in float32: the product rounds its result to the type of the inputs.
Before = Callable[..., Array]


def gelu(x: Array) -> Array:
    """x times the normal distribution function of x: the exact GELU, float32."""
    x = x.astype(jnp.float32)
    # With erf, as torch has it; with erfc, as jax.nn has it, the gradient costs twice the time.
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def dense(
    inputs: tuple[Array, ...],
    kernel: Array,
    bias: Array | None = None,
    *,
    num_input_axes: int = 1,
    before: Before | None = None,
    keep: bool = True,
) -> Array:
    """before(*inputs) @ kernel + bias: operands of the inputs' type, float32 accumulator.

    The backward pass keeps `inputs` and not what `before` makes of them.

    Args:
        inputs: arrays [..., *I] of one shape and type; several only with `before`.
        kernel: float32[*I, *O].
        bias: float32[*O].
        num_input_axes: length of I.
        before: elementwise function of the inputs, see `Before`; None = the single input.
        keep: whether the result has `NAME`.

    Returns:
        [..., *O] in the type of the inputs.
    """
    options = (num_input_axes, before, scope.in_unrolled())
    if before is not None and not scope.is_on("mlp"):
        inputs = (before(*inputs).astype(inputs[0].dtype),)
        options = (num_input_axes, None, False)
    if scope.is_on("dense"):
        y = _dense(*options, *scope.alike(inputs, kernel, bias))
    else:
        y = _forward(*options, inputs, kernel, bias)
    return _named(y, kernel.ndim - num_input_axes) if keep else y


def _named(y: Array, outs: int) -> Array:
    """`y` by the name of what is kept: as [..., D], since TPUs pad the last of axes [heads, d]."""
    flat = y.reshape(*y.shape[: y.ndim - outs], math.prod(y.shape[y.ndim - outs :]))
    return checkpoint_name(flat, NAME).reshape(y.shape)


def _forward(num, before, unrolled, inputs, kernel, bias):
    x = before(*inputs).astype(inputs[0].dtype) if before else inputs[0]
    y = _product(x, kernel.astype(x.dtype), _last(x, num), _first(num))
    if bias is not None:
        y = y + bias
    return y.astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _dense(num, before, unrolled, inputs, kernel, bias):
    return _forward(num, before, unrolled, inputs, kernel, bias)


def _fwd(num, before, unrolled, inputs, kernel, bias):
    return _forward(num, before, unrolled, inputs, kernel, bias), (inputs, kernel, bias)


def _bwd(num, before, unrolled, saved, g):
    inputs, kernel, bias = saved
    if before and unrolled:
        g, inputs = chain.once((g, inputs))
    dtype = inputs[0].dtype
    x, pull = jax.vjp(before, *inputs) if before else (inputs[0], lambda d_x: (d_x.astype(dtype),))
    outs = kernel.ndim - num
    d_x = _product(g, kernel.astype(dtype), _last(g, outs), _last(kernel, outs))
    batch, x = x.ndim - num, x.astype(dtype)
    if before and unrolled:
        x = chain.once(x)  # not anew, element by element, in the copy that transposes it
    d_bias = None if bias is None else g.astype(jnp.float32).sum(_first(batch))
    return pull(d_x), _kernel_gradient(x, g, batch), d_bias


_dense.defvjp(_fwd, _bwd)


def _kernel_gradient(x: Array, g: Array, batch: int) -> Array:
    """float32[*I, *O]: the sum over all rows of x [..., *I] and g [..., *O]."""
    if x.dtype == jnp.float32:
        # XLA:CPU multiplies a transposed float32 matrix without a copy if it is two-dimensional;
        # of bfloat16 it has no such product, and the copy is best left to it.
        rows = math.prod(x.shape[:batch])
        x, g = (a.reshape(rows, *a.shape[batch:]) for a in (x, g))
        batch = 1
    return _product(x, g, _first(batch), _first(batch))


def _product(a: Array, b: Array, a_axes: tuple[int, ...], b_axes: tuple[int, ...]) -> Array:
    dimensions = ((a_axes, b_axes), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _first(num: int) -> tuple[int, ...]:
    return tuple(range(num))


def _last(x: Array, num: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - num, x.ndim))
