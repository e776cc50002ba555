"""Keeping XLA:CPU from undoing what the backward pass of an unrolled stack is written to do.

Two things go wrong there and nowhere else. The cotangent of the residual stream is a sum that grows
by two terms a layer, and fusion recomputes the whole sum in every consumer: O(depth^2). And what a
lean backward pass recomputes is merged with the forward pass or moved up to it, so that it is kept
after all. `optimization_barrier` is dropped before fusion, but a loop is not looked through: one
that runs zero times, with a bound that the compiler does not fold. In a scan the loop over layers
does the same, and on other platforms nothing is emitted.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from maskjax.nn.lean import scope


def cut(x: Array) -> Array:
    """`x`; in an unrolled stack on CPU, its cotangent is not computed anew by all that use it."""
    return _cut(x) if scope.in_unrolled() else x


@jax.custom_vjp
def _cut(x: Array) -> Array:
    return x


_cut.defvjp(lambda x: (x, None), lambda _, g: (once(g),))


@jax.custom_vjp
def once(tree: Any) -> Any:
    """`tree`; on CPU all of it is computed before, and apart from, anything that uses any of it."""
    return jax.lax.platform_dependent(tree, cpu=_loop, default=lambda tree: tree)


once.defvjp(lambda tree: (once(tree), None), lambda _, g: (g,))


def _loop(tree: Any) -> Any:
    zero = jax.lax.optimization_barrier(jnp.int32(0))
    return jax.lax.fori_loop(0, zero, lambda _, t: jax.tree.map(jnp.negative, t), tree)
