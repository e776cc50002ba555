"""Host batches become global device arrays, one batch ahead of the step."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

Batch = dict[str, Array]


def to_devices(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> Batch:
    """This process's rows [b, ...] of each array -> global arrays [B, ...] over the mesh."""
    put = jax.make_array_from_process_local_data
    return {name: put(sharding, np.asarray(rows)) for name, rows in batch.items()}


def device_batches(
    batches: Iterator[Mapping[str, np.ndarray]], sharding: NamedSharding
) -> Iterator[Batch]:
    """Global device batches; the copy of the next one starts before the last one is used up.

    Args:
        batches: this process's rows of each global batch.
        sharding: of the first axis of every array.
    """
    ahead = None
    for batch in batches:
        current, ahead = ahead, to_devices(batch, sharding)
        if current is not None:
            yield current
    if ahead is not None:
        yield ahead
