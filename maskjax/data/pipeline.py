"""The Grain pipeline behind ``data.train``; of ``data``, only this and ``order`` import grain."""

import os
from collections.abc import Callable
from typing import Any

import grain
import numpy as np
from absl import flags

from maskjax.data.fields import as_fields
from maskjax.data.order import training_order
from maskjax.data.random import host_rng, position_words
from maskjax.data.source import Source

Made = np.ndarray | dict[str, np.ndarray]
Transform = Callable[[dict[str, Any], np.random.Generator], Made]


class Augment:
    """(stream position, example) -> the numpy arrays that one row of a batch is made of.

    Grain passes the index after ``repeat``, which is not taken modulo the size of the source: it is
    the position in the global stream, so an image gets new draws in each epoch. With several views
    of each example, it also has "shared_rng": draws that its views have in common.
    """

    def __init__(self, transform: Transform, seed: int, views: int = 1):
        self.transform, self.seed, self.views = transform, seed, views

    def __call__(self, position: int, example: dict[str, Any]) -> dict[str, np.ndarray]:
        rng = host_rng(self.seed, "augment", position)
        if self.views > 1:
            shared = host_rng(self.seed, "augment/views", position // self.views)
            example = {**example, "shared_rng": shared}
        row = as_fields(self.transform(example, rng), example["id"])
        row["position"] = position_words(position)
        if "label" in example:
            row["label"] = np.int32(example["label"])
        return row


class StreamOrder(grain.MapDataset):
    """Undoes the interleaving of ElasticIterator, so that a global batch is in stream order.

    ElasticIterator gives rows 0, P, 2P, ... of a global batch to process 0 of P, and so on. Here
    row r is renamed such that process p gets the rows p*b .. (p+1)*b - 1 (b rows for each process):
    the global array, in which the blocks of the processes lie one after another, is then the same
    for every number of processes. ``start`` is where the first batch begins.
    """

    def __init__(self, parent: grain.MapDataset, start: int, global_batch: int, num_shards: int):
        super().__init__(parent)
        self._ds, self._start = parent, start
        self._batch, self._shards = global_batch, num_shards

    def __len__(self) -> int:
        return len(self._ds)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, row = divmod(index - self._start, self._batch)
        within, shard = divmod(row, self._shards)
        position = batch * self._batch + shard * (self._batch // self._shards) + within
        return self._ds[self._start + position]


def build(
    source: Source,
    transform: Transform,
    *,
    seed: int,
    global_batch: int,
    process_index: int,
    process_count: int,
    workers: int,
    threads: int,
    start: int,
    views: int = 1,
) -> grain.DatasetIterator:
    """order, read, augment, rearrange, then slice by process and batch; see ``data.train``."""
    dataset = training_order(source, seed, views).map(source.__getitem__)
    dataset = dataset.map_with_index(Augment(transform, seed, views))
    dataset = StreamOrder(dataset, start, global_batch, process_count)
    threads = threads or default_threads(workers)
    elastic = grain.experimental.ElasticIterator(
        dataset,
        global_batch,
        grain.sharding.ShardOptions(shard_index=process_index, shard_count=process_count),
        # Grain's own defaults would hold 500 whole batches in memory.
        read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1),
        multiprocessing_options=_multiprocessing(workers),
    )
    elastic.set_state({"global_next_index": start})
    return iter(elastic)


def default_threads(workers: int) -> int:
    """Threads for each data process: they share the cores, and decoding gives up the GIL."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(16, (cores or 1) // max(1, workers)))


def _multiprocessing(workers: int) -> grain.MultiprocessingOptions | None:
    if not workers:
        return None
    if not flags.FLAGS.is_parsed():
        # Grain reads absl flags when it starts workers; outside of app.run nobody parsed them.
        flags.FLAGS.mark_as_parsed()
    return grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
