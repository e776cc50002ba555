"""A generator takes one typed PRNG key, or the noise that it would have drawn with it."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array


def is_key(value: Any) -> bool:
    """Whether `value` is a typed PRNG key (`jax.random.key`), or an array of them."""
    return jnp.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key)


def varying_like(x: Any, *others: Array) -> Any:
    """The same x, but differing between devices where one of `others` does.

    What a loop carries must come in as it goes out: inside `shard_map` constants, which are alike
    on all devices, must not turn into what is not. Compiles to nothing.

    Args:
        x: tree of arrays.
        others: what the loop's results depend on.
    """
    either = functools.reduce(operator.and_, ((other != 0).any() for other in others))
    return jax.tree.map(lambda leaf: jnp.where(either, leaf, leaf), x)


def noise_of(
    noise_or_key: Array,
    shape: tuple[int, ...],
    sample: Callable[[Array, tuple[int, ...]], Array] = jax.random.uniform,
) -> Array:
    """The noise: drawn with one key, or as it was given.

    Args:
        noise_or_key: one typed PRNG key, or noise real[..., *shape].
        shape: what one example consumes.
        sample: (key, shape) -> noise, the law of the noise.

    Returns:
        [*shape] from a key, else the noise that was given.

    Raises:
        AssertionError: if the noise does not end in `shape`.
    """
    if is_key(noise_or_key):
        return sample(noise_or_key, shape)
    noise = jnp.asarray(noise_or_key)
    chex.assert_shape(noise, (..., *shape))
    return noise
