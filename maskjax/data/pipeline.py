"""The Grain pipeline behind ``data.train``; of ``data``, only this and ``order`` import grain."""

import dataclasses
import math
import os
from typing import Any

import grain
from absl import flags

from maskjax.data.order import training_order
from maskjax.data.rows import Chunk, RowMaker
from maskjax.data.workers import shield

# Rows that a thread makes at a time. Small, so that memory is bounded whatever the batch is and all
# workers share the first batch; large enough that handing a chunk over costs little.
CHUNK_ROWS = 16
# Smaller arrays travel inside the message, which is quicker than shared memory of their own.
_MIN_SHARED_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which rows of the training stream a process makes, and how they are cut into chunks.

    Attributes:
        global_batch: rows of a batch over all processes.
        process_index, process_count: which process this is, of how many.
        start: position of the first row of the first batch.
        views: consecutive positions that show the same image.
    """

    global_batch: int
    process_index: int
    process_count: int
    start: int
    views: int

    @property
    def rows(self) -> int:
        """Rows of a batch in this process."""
        return self.global_batch // self.process_count

    @property
    def chunk(self) -> int:
        """Rows of a chunk (the last one of a batch may have fewer): whole images."""
        even = -(-self.rows // math.ceil(self.rows / CHUNK_ROWS))
        return min(self.rows, -(-even // self.views) * self.views)

    @property
    def chunks(self) -> int:
        """Chunks of a batch."""
        return -(-self.rows // self.chunk)

    def positions(self, index: int) -> range:
        """The positions of this process's chunk ``index``, counted from ``start``."""
        batch, chunk = divmod(index, self.chunks)
        first = self.start + batch * self.global_batch + self.process_index * self.rows
        return range(first + chunk * self.chunk, first + min(self.rows, (chunk + 1) * self.chunk))


@dataclasses.dataclass(frozen=True)
class Buffers:
    """How much is read ahead.

    Attributes:
        plan: the rows of a chunk and of a batch.
        workers: processes; 0 = threads of this one.
        threads: in each of them.
        made: chunks that are finished or being made, of each pool of threads.
        sent: chunks waiting in the queue of each worker; 0 without workers.
    """

    plan: Plan
    workers: int
    threads: int
    made: int
    sent: int

    @classmethod
    def of(cls, plan: Plan, workers: int, threads: int) -> "Buffers":
        """Enough for two batches and for no thread to wait for another one."""
        threads = threads or default_threads(workers)
        two_batches = 2 * plan.chunks
        if not workers:
            return cls(plan, 0, threads, max(2 * threads, two_batches), 0)
        made = 2 * threads
        sent = max(1, -(-two_batches // workers) - made)
        return cls(plan, workers, threads, made, sent)

    @property
    def rows(self) -> int:
        """The most rows that one worker (or this process, without workers) holds at a time."""
        in_hand = 1 if self.workers else 0  # between its pool and its queue
        return (self.made + self.sent + in_hand) * self.plan.chunk

    def text(self, row_bytes: int) -> str:
        """What memory that takes at most, for people; ``row_bytes`` of one row, all fields."""
        each, batch = (rows * row_bytes / 1e6 for rows in (self.rows, self.plan.rows))
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        if not self.workers:
            return f"{threads}, {each:.3g} MB ahead, 3 batches of {batch:.3g} MB"
        return (
            f"{self.workers} worker{'s' * (self.workers != 1)} x {threads}, {each:.3g} MB ahead in"
            f" each beside the interpreter's own 100 to 200 MB, 3 batches of {batch:.3g} MB"
        )

    def shared_bytes(self, row_bytes: int) -> int:
        """The most that lies in shared memory (/dev/shm) at a time."""
        return self.workers * (self.sent + 1) * self.plan.chunk * row_bytes


class Chunks(grain.MapDataset):
    """Chunk k of this process's rows; a pure function of k.

    Args:
        order: image of the stream -> number of the example in the source.
        make: (number, positions) -> rows.
        plan: positions of a chunk.
    """

    def __init__(self, order: grain.MapDataset, make: RowMaker, plan: Plan):
        super().__init__(order)
        self._order, self._make, self._plan = order, make, plan

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        chunk = Chunk()
        for image, positions in _images(self._plan.positions(index), self._plan.views):
            chunk.add(*self._make(self._order[image], positions))
        return chunk.stacked()


def build(make: RowMaker, buffers: Buffers) -> grain.DatasetIterator:
    """Chunks of this process's rows, in the order of the stream.

    Args:
        make: see ``Chunks``.
        buffers: see ``Buffers``.
    """
    order = training_order(make.source, make.seed)
    options = grain.ReadOptions(buffers.threads, buffers.made)
    chunks = Chunks(order, make, buffers.plan).to_iter_dataset(options)
    if buffers.workers:
        if not flags.FLAGS.is_parsed():
            # Grain reads absl flags when it starts workers; outside of app.run nobody parsed them.
            flags.FLAGS.mark_as_parsed()
        small = grain.experimental.DatasetOptions(min_shm_size=_MIN_SHARED_BYTES)
        chunks = grain.experimental.WithOptionsIterDataset(chunks, small)
        chunks = chunks.mp_prefetch(
            grain.MultiprocessingOptions(buffers.workers, buffers.sent), worker_init_fn=shield
        )
    return iter(chunks)


def default_threads(workers: int) -> int:
    """Threads for each data process: they share the cores, and decoding gives up the GIL."""
    return max(1, min(16, num_cores() // max(1, workers)))


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _images(positions: range, views: int) -> list[tuple[int, range]]:
    """Positions grouped by the image of the stream that they show."""
    images = range(positions.start // views, (positions.stop - 1) // views + 1)
    return [
        (
            image,
            range(max(image * views, positions.start), min((image + 1) * views, positions.stop)),
        )
        for image in images
    ]
