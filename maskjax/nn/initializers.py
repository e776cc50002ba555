"""Initial values, as the official PyTorch codes draw them."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
from jax import Array

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
