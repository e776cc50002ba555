"""TrAct: a first layer whose weight gradient moves its outputs, not its weights.

Petersen, Borgelt, Ermon, "TrAct: Making First-layer Pre-Activations Trainable", NeurIPS 2024. The
layer z = a W + bias on rows a [b, n] hands the optimizer, in the place of the gradient a^T g,

    G = (a^T a / b + lambda I)^-1 a^T g,

the ridge solution of the weight change that best makes a gradient step on z. Values, the bias's and
the input's gradients stay as they are. Rows are all patches, or places of a window, that the layer
gets, over the whole batch on all devices (the official code takes each replica's own); the inverse
is worked out in float32 by a Cholesky factor. Layers that are `first` use it within `strength`.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

Layer = Callable[[Array, Array, Array | None], Array]
Unfold = Callable[[Array], Array]


@dataclasses.dataclass
class Use:
    """What is in force while a function is traced.

    Attributes:
        strength: lambda; smaller is more aggressive. 0.1 in the paper, 0.2 for long schedules.
        layers: how many layers took it.
    """

    strength: float
    layers: int = 0


_use: contextvars.ContextVar[Use | None] = contextvars.ContextVar("tract", default=None)


@contextlib.contextmanager
def strength(value: float) -> Iterator[Use]:
    """First layers that are traced within have TrAct's gradient, with this lambda.

    Raises:
        ValueError: unless it is positive.
    """
    if not value > 0:
        raise ValueError(f"TrAct needs a positive strength, got {value}")
    use = Use(value)
    token = _use.set(use)
    try:
        yield use
    finally:
        _use.reset(token)


def apply(layer: Layer, unfold: Unfold, x: Array, kernel: Array, bias: Array | None) -> Array:
    """layer(x, kernel, bias), with TrAct's kernel gradient where `strength` is in force.

    Args:
        layer: any function that is linear in x and in the kernel.
        unfold: x -> rows [b, *I]: what each row of the output is the product of, I the leading
            axes of the kernel.
        x: inputs.
        kernel: float32[*I, *O].
        bias: float32[*O] or None.
    """
    use = _use.get()
    if use is None:
        return layer(x, kernel, bias)
    use.layers += 1
    return _tract(layer, unfold, use.strength, x, kernel, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _tract(layer, unfold, value, x, kernel, bias):
    return layer(x, kernel, bias)


def _fwd(layer, unfold, value, x, kernel, bias):
    y, pull = jax.vjp(layer, x, kernel, bias)
    return y, (x, pull)


def _bwd(layer, unfold, value, saved, g):
    x, pull = saved
    d_x, d_kernel, d_bias = pull(g)
    return d_x, preconditioned(d_kernel, unfold(x), g, value), d_bias


_tract.defvjp(_fwd, _bwd)


def preconditioned(gradient: Array, rows: Array, g: Array, value: float) -> Array:
    """(a^T a / b + value I)^-1 applied to a kernel's gradient a^T g; float32 throughout.

    With fewer rows than inputs the equal form a^T (a a^T / b + value I)^-1 g is taken.

    Args:
        gradient: [*I, *O].
        rows: a [b, *I].
        g: cotangent of the layer's output, b rows of [*O] in the order of `rows`.
        value: lambda, positive.

    Returns:
        float32[*I, *O].
    """
    inputs = rows.shape[1:]
    num, fan_in = len(rows), math.prod(inputs)
    a = rows.reshape(num, fan_in).astype(jnp.float32)
    exact = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
    if num < fan_in:
        gram = jnp.matmul(a, a.T, **exact)
        cotangent = g.astype(jnp.float32).reshape(num, -1)
        solved = jnp.matmul(a.T, _solve(gram, num, value, cotangent), **exact)
    else:
        moments = jnp.matmul(a.T, a, **exact)
        flat = gradient.astype(jnp.float32).reshape(fan_in, -1)
        solved = _solve(moments, num, value, flat)
    return solved.reshape(gradient.shape)


def _solve(moments: Array, num: int, value: float, right: Array) -> Array:
    """(moments / num + value I)^-1 right, on every device whole."""
    matrix = _replicated(moments / num + value * jnp.eye(len(moments)))
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    return jax.scipy.linalg.cho_solve(factor, _replicated(right))


def _replicated(x: Array) -> Array:
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, PartitionSpec())
