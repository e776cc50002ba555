"""Layers whose backward pass keeps little and multiplies in the compute type.

Plain autodiff keeps float32 intermediates of LayerNorm, GELU and softmax, and multiplies float32
cotangents. The functions here have backward passes of their own (`jax.custom_vjp`): they keep their
inputs in the compute type, recompute the rest, and take every product of compute-type operands
into a float32 accumulator. Values and gradients are those of plain autodiff to rounding.

Reverse mode works to any order, as do vmap, scan, checkpoint and sharding. Forward mode (`jax.jvp`,
`jax.hessian`) does not: trace under `plain`, or set `config.model.lean = False`.
"""

from maskjax.nn.lean.attention import attend
from maskjax.nn.lean.chain import cut
from maskjax.nn.lean.norm import layer_norm
from maskjax.nn.lean.product import NAME, Before, dense, gelu
from maskjax.nn.lean.scope import PARTS, only, plain, unrolled

__all__ = [
    "NAME",
    "PARTS",
    "Before",
    "attend",
    "cut",
    "dense",
    "gelu",
    "layer_norm",
    "only",
    "plain",
    "unrolled",
]
