"""Every random number that a method uses, by name: keyed in training, replayed in golden tests."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
from jax import Array


def stream_key(key: Array, stream: str) -> Array:
    """The key of the stream named `stream`; names are hashed by crc32, the same on every host."""
    return jax.random.fold_in(key, zlib.crc32(stream.encode()))


def example_keys(key: Array, positions: Array) -> Array:
    """Keys [B], one per example, from positions uint32[B, 2] = (high, low) words.

    Two words, since long runs see more than 2**32 examples.
    """
    chex.assert_shape(positions, (None, 2))

    def one(position: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, position[0]), position[1])

    return jax.vmap(one)(positions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
    """Random arrays for a batch, as a function of (seed, stream name, position, draw number).

    The position counts examples from the start of training, so what an example gets does not
    depend on how many devices, hosts or micro-batches the batch was cut into. Asking twice for the
    same name gives the same numbers; `draw` tells repeated draws apart.

    Attributes:
        key: the run's key, or None where everything is replayed.
        positions: uint32[B, 2], (high, low) words of each example's position, or None.
        recorded: arrays [B, ...] by stream name (`name` for draw 0, `name/1` for draw 1, ...)
            that stand in for the generator.
    """

    key: Array | None
    positions: Array | None
    recorded: Mapping[str, Array] = dataclasses.field(default_factory=dict)

    @classmethod
    def keyed(cls, key: Array, positions: Array) -> "Draws":
        """Draws for training: key of the run, positions uint32[B, 2]."""
        return cls(key, positions)

    @classmethod
    def replay(cls, recorded: Mapping[str, Array]) -> "Draws":
        """Draws that return what was recorded and refuse every other name."""
        return cls(None, None, dict(recorded))

    def uniform(self, name: str, shape: tuple[int, ...] = (), *, draw: int = 0) -> Array:
        """float32[B, *shape] in [0, 1)."""
        return self._draw(name, shape, draw, lambda k: jax.random.uniform(k, shape))

    def normal(self, name: str, shape: tuple[int, ...] = (), *, draw: int = 0) -> Array:
        """float32[B, *shape], mean 0, variance 1."""
        return self._draw(name, shape, draw, lambda k: jax.random.normal(k, shape))

    def gumbel(self, name: str, shape: tuple[int, ...] = (), *, draw: int = 0) -> Array:
        """float32[B, *shape], standard Gumbel."""
        return self._draw(name, shape, draw, lambda k: jax.random.gumbel(k, shape))

    def beta(
        self, name: str, a: float, b: float, shape: tuple[int, ...] = (), *, draw: int = 0
    ) -> Array:
        """float32[B, *shape] in [0, 1], Beta(a, b)."""
        return self._draw(name, shape, draw, lambda k: jax.random.beta(k, a, b, shape))

    def permutation(self, name: str, num: int, *, draw: int = 0) -> Array:
        """int32[B, num]: a permutation of 0..num-1 for each example."""
        sample = lambda k: jax.random.permutation(k, jnp.arange(num, dtype=jnp.int32))  # noqa: E731
        return self._draw(name, (num,), draw, sample)

    def sample(
        self, name: str, shape: tuple[int, ...], sample: Callable[[Array], Array], *, draw: int = 0
    ) -> Array:
        """[B, *shape]: `sample(key)` of every example's key, for laws that have no method here."""
        return self._draw(name, shape, draw, sample)

    def _draw(
        self, name: str, shape: tuple[int, ...], draw: int, sample: Callable[[Array], Array]
    ) -> Array:
        label = name if draw == 0 else f"{name}/{draw}"
        if label in self.recorded:
            value = jnp.asarray(self.recorded[label])
            chex.assert_shape(value, (None, *shape))
            return value
        if self.key is None or self.positions is None:
            known = ", ".join(sorted(self.recorded)) or "nothing"
            raise KeyError(f"the draw {label!r} was not recorded; recorded: {known}")
        keys = example_keys(stream_key(self.key, name), self.positions)
        return jax.vmap(lambda k: sample(jax.random.fold_in(k, draw)))(keys)
