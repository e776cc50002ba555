"""The training iterator: endless, shuffled, augmented, exact to resume."""

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from maskjax.data.source import Source
from maskjax.errors import UserError

if TYPE_CHECKING:
    from maskjax.data.pipeline import Transform


def train_iterator(
    source: Source,
    transform: "Transform",
    *,
    seed: int,
    global_batch: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 0,
    start: int = 0,
    views: int = 1,
) -> "TrainIterator":
    """Batches of one process, without end.

    The training stream is an endless list of examples: epoch after epoch, each a new permutation of
    the source (of a mixture: see ``data.order``). Its order is a function of (seed, position), and
    the augmentation of an example is drawn from ``host_rng(seed, "augment", position)``, where the
    position counts from the start of training. Nothing else enters: the stream is the same for
    every number of processes, workers and threads, and a run can be resumed at any position with
    other numbers of them.

    A global batch is the next ``global_batch`` positions. With b = global_batch / process_count,
    process p holds its rows p*b .. (p+1)*b - 1: blocks, not strides, so that putting the blocks of
    the processes one after another (``jax.make_array_from_process_local_data``) gives the rows in
    stream order. A batch may span epochs, and may be larger than the source.

    Args:
        source: see ``data.source``.
        transform: (example, rng) -> uint8[H, W, C], or a dict of named arrays; all of one shape;
            picklable if workers > 0.
        seed: 0 <= seed < 2**64.
        global_batch: examples in a batch over all processes, a multiple of process_count.
        process_index, process_count: which process this is, of how many.
        workers: processes that read and transform for this one; 0 uses threads of this process.
            Each is a fresh interpreter that imports the script which started it, so that script
            needs the ``if __name__ == "__main__"`` guard.
        threads: in this process, or in each worker; 0 chooses by the number of cores.
        start: position of the first example: 0, or the ``state()`` of an iterator that was stopped.
        views: positions in a row that hold the same example, each augmented with its own draws.

    Returns:
        An iterator over dicts: "image" uint8[b, H, W, C], or the fields [b, ...] that the transform
        returns; "label" int32[b] if the source has labels; "position" uint32[b, 2], the high and
        the low word of the position in the stream.

    Raises:
        UserError: a number is out of range, or the source is empty; during iteration: an image that
            cannot be read.
    """
    _check_counts(global_batch, process_index, process_count)
    for name, value in (("seed", seed), ("start", start), ("workers", workers)):
        if value < 0:
            raise UserError(f"{name} must not be negative, found {value}")
    if views < 1:
        raise UserError(f"views must be at least 1, found {views}")
    if len(source) == 0:
        raise UserError("the training source is empty")
    from maskjax.data import pipeline

    batches = pipeline.build(
        source,
        transform,
        seed=seed,
        global_batch=global_batch,
        process_index=process_index,
        process_count=process_count,
        workers=workers,
        threads=threads,
        start=start,
        views=views,
    )
    return TrainIterator(batches, start, global_batch, shared_memory=workers > 0)


class TrainIterator(Iterator[dict[str, np.ndarray]]):
    """What ``train_iterator`` returns; close it, or use it in a ``with`` block: it has workers."""

    def __init__(self, batches, position: int, global_batch: int, shared_memory: bool):
        self._open = [batches]
        self._position, self._global_batch = position, global_batch
        self._shared_memory = shared_memory
        # Also at exit: Grain's iterators complain when they outlive the modules they use.
        self._close = weakref.finalize(self, _close, self._open)

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._open:
            raise ValueError("this training iterator was closed")
        batch = next(self._open[0])
        self._position += self._global_batch
        if self._shared_memory:
            # A copy frees the worker's shared memory now, not when the last view of it goes away.
            batch = {name: np.array(value, subok=False) for name, value in batch.items()}
        return batch

    def state(self) -> int:
        """The position of the first example of the next batch: the same on every process."""
        return self._position

    def close(self) -> None:
        """Ends worker processes and threads; the iterator cannot be used afterwards."""
        self._close()

    def __enter__(self) -> "TrainIterator":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _close(batches: list) -> None:
    while batches:
        batches.pop().close()


def _check_counts(global_batch: int, process_index: int, process_count: int) -> None:
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not one of {process_count} processes")
    if global_batch < 1 or global_batch % process_count:
        raise UserError(
            f"the global batch must be a positive multiple of the {process_count} processes,"
            f" found {global_batch}"
        )
