"""Initial values, as the official PyTorch codes draw them."""

import math
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from maskjax.masking.draws import stream_key

Initializer = Callable[..., Array]

token = nn.initializers.normal(0.02)


def truncated(std: float) -> Initializer:
    """N(0, std^2) cut at one standard deviation, as BEiT's lineage has it."""
    return nn.initializers.truncated_normal(std, lower=-1.0, upper=1.0)


def xavier_uniform(fan_in: int, fan_out: int) -> Initializer:
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)), with the fans given, not read off the shape.

    The fans are explicit since q, k and v are separate here but one (3D, D) matrix in the official
    codes, which gives all three the fan_out 3D (Glorot and Bengio 2010, eq. 16).
    """
    return symmetric_uniform(math.sqrt(6 / (fan_in + fan_out)))


def symmetric_uniform(limit: float) -> Initializer:
    """U(-limit, limit)."""

    def init(key: Array, shape: tuple[int, ...], dtype=float) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def redrawn(tree: Any, key: Array, init: Initializer, pattern: str) -> Any:
    """`tree` with new values where `pattern` is in the path ("blocks/mlp/fc1/kernel").

    For codes that overwrite the values of all their layers at the end. A leaf gets the same values
    whatever else is in the tree.

    Args:
        tree: parameters.
        key: for all leaves.
        init: (key, shape, dtype) -> values; it must not look at the axes, stacks have one more.
        pattern: regex, searched in the path.
    """

    def draw(path: tuple, leaf: Array) -> Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not re.search(pattern, name):
            return leaf
        return init(stream_key(key, name), leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree)


def rescaled_by_depth(blocks: dict) -> dict:
    """The last layer of each branch of block k = 1, 2, ... divided by sqrt(2 k) (BEiT).

    Args:
        blocks: stacked parameters; attn/out/kernel and mlp/fc2/kernel [depth, ...] are divided.
    """

    def divide(kernel: Array) -> Array:
        number = np.arange(1, len(kernel) + 1, dtype=np.float32)
        return kernel / np.sqrt(2 * number).reshape(-1, *[1] * (kernel.ndim - 1))

    attn, mlp = blocks["attn"], blocks["mlp"]
    out, fc2 = ({**layer, "kernel": divide(layer["kernel"])} for layer in (attn["out"], mlp["fc2"]))
    return {**blocks, "attn": {**attn, "out": out}, "mlp": {**mlp, "fc2": fc2}}
