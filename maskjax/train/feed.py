"""Host batches become global device arrays, one batch ahead of the step."""

import time
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

Batch = dict[str, Array]


def to_devices(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> Batch:
    """This process's rows [b, ...] of each array -> global arrays [B, ...] over the mesh."""
    put = jax.make_array_from_process_local_data
    # Asked for, but over several processes JAX does it in a way that it takes for an accident.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: put(sharding, np.asarray(rows)) for name, rows in batch.items()}


class DeviceBatches(Iterator[Batch]):
    """Global device batches; the copy of the next one starts before the last one is used up.

    Args:
        batches: this process's rows of each global batch.
        sharding: of the first axis of every array.

    Attributes:
        waited: seconds of waiting for `batches` so far.
    """

    def __init__(self, batches: Iterator[Mapping[str, np.ndarray]], sharding: NamedSharding):
        self._batches, self._sharding = batches, sharding
        self._ahead: Batch | None = None
        self.waited = 0.0
        self._waited, self._since = 0.0, time.monotonic()

    def __next__(self) -> Batch:
        current = self._fetch() if self._ahead is None else self._ahead
        if current is None:
            raise StopIteration
        self._ahead = self._fetch()
        return current

    def wait_share(self) -> float:
        """The share of the time since the last call that went into waiting for `batches`, 0..1."""
        now = time.monotonic()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return min(1.0, share)

    def _fetch(self) -> Batch | None:
        start = time.monotonic()
        batch = next(self._batches, None)
        seconds = time.monotonic() - start
        self._waited += seconds
        self.waited += seconds
        return None if batch is None else to_devices(batch, self._sharding)
