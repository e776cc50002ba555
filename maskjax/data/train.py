"""The training iterator: endless, shuffled, augmented, exact to resume."""

import functools
import logging
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from maskjax.data.ahead import Ahead
from maskjax.data.examples import Bad, Tally, require_on_error
from maskjax.data.rows import BAD, RowMaker, Transform
from maskjax.data.source import Source
from maskjax.data.workers import Notes, explain_death
from maskjax.errors import UserError

if TYPE_CHECKING:
    from maskjax.data.pipeline import Buffers

log = logging.getLogger(__name__)


def train_iterator(
    source: Source,
    transform: Transform,
    *,
    seed: int,
    global_batch: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 0,
    start: int = 0,
    views: int = 1,
    on_error: str = "error",
    bad_share: float = 0.05,
    timeout: float = 0,
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
            picklable if workers > 0. With views > 1 its method ``views(example, rngs)``, if it has
            one, makes all views of an example, so that the image is decoded once.
        seed: 0 <= seed < 2**64.
        global_batch: examples in a batch over all processes, a multiple of process_count.
        process_index, process_count: which process this is, of how many.
        workers: processes that read and transform for this one; 0 uses threads of this process.
            Each is a fresh interpreter that imports the script which started it, so that script
            needs the ``if __name__ == "__main__"`` guard.
        threads: in this process, or in each worker; 0 chooses by the number of cores.
        start: position of the first example: 0, or the ``state()`` of an iterator that was stopped.
        views: positions in a row that show the same example, each augmented with its own draws.
            A process decodes an image once for all of them that fall into one of its batches.
        on_error: an example that cannot be used (unreadable file, no image, wrong label) is an
            "error", or "skip" puts in its place the next usable one in the order of the source, on
            any number of processes and workers the same one, and notes it in ``bad``.
        bad_share: with "skip", the share of bad examples (beyond the first 30) that ends the run;
            many in a row always do.
        timeout: seconds without a batch after which the run ends; 0 = never. What is waited for is
            logged after a minute.

    Returns:
        An iterator over dicts: "image" uint8[b, H, W, C], or the fields [b, ...] that the transform
        returns; "label" int32[b] if the source has labels; "position" uint32[b, 2], the high and
        the low word of the position in the stream.

    Raises:
        UserError: a number is out of range, or the source is empty; during iteration: an example
            that cannot be used, or too many of them; a worker that died, with what it was reading.
    """
    _check_counts(global_batch, process_index, process_count, views)
    for name, value in (("seed", seed), ("start", start), ("workers", workers)):
        if value < 0:
            raise UserError(f"{name} must not be negative, found {value}")
    require_on_error(on_error, "on_error")
    if len(source) == 0:
        raise UserError("the training source is empty")
    from maskjax.data import pipeline

    notes = Notes()
    make = RowMaker(source, transform, seed=seed, views=views, on_error=on_error, notes=notes)
    plan = pipeline.Plan(global_batch, process_index, process_count, start, views)
    buffers = pipeline.Buffers.of(plan, workers, threads)
    chunks = pipeline.build(make, buffers)
    tally = Tally(bad_share, "training examples", "config.data.bad_share")
    return TrainIterator(chunks, buffers, notes, tally, timeout)


class TrainIterator(Iterator[dict[str, np.ndarray]]):
    """What ``train_iterator`` returns; close it, or use it in a ``with`` block: it has workers.

    Attributes:
        tally: the examples that were passed over so far, in batches that were handed out.
        plan, buffers: how the stream is cut, and how much of it is read ahead.
    """

    def __init__(
        self,
        chunks,
        buffers: "Buffers",
        notes: Notes,
        tally: Tally,
        timeout: float,
    ):
        self.plan, self.buffers, self.tally = buffers.plan, buffers, tally
        self._position = self.plan.start
        self._notes = notes
        stalled = functools.partial(_stalled, notes, timeout)
        self._open = [chunks, Ahead(_batches(chunks, self.plan.rows), stalled, limit=timeout)]
        # Also at exit: Grain's iterators complain when they outlive the modules they use.
        self._close = weakref.finalize(self, _close, self._open, notes)

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._open:
            raise ValueError("this training iterator was closed")
        try:
            batch, bad = next(self._open[-1])
            self.tally.add(self.plan.rows, bad)
        except Exception as error:
            explained = explain_death(error, self._notes)
            self.close()
            if explained is None:
                raise
            raise explained from error
        self._position += self.plan.global_batch
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


def _stalled(notes: Notes, timeout: float, seconds: float) -> None:
    doing = [text for texts in notes.read().values() for text in texts]
    what = f"no training batch for {seconds:.0f} s; being read: {', '.join(doing) or 'nothing'}"
    if timeout and seconds >= timeout:
        raise UserError(f"{what} (config.data.timeout = {timeout:g})")
    log.warning(what)


def _batches(chunks, rows: int) -> Iterator[tuple[dict[str, np.ndarray], list[Bad]]]:
    """Chunks put together to batches of so many rows, and the bad examples in each."""
    while True:
        batch: dict[str, np.ndarray] = {}
        bad: list[Bad] = []
        filled = 0
        while filled < rows:
            chunk = next(chunks)
            bad += [Bad(*one) for one in chunk.pop(BAD)]
            size = len(chunk["position"])
            batch = batch or {
                name: np.empty((rows, *part.shape[1:]), part.dtype) for name, part in chunk.items()
            }
            _check_fits(batch, chunk)
            for name, part in chunk.items():
                # A copy frees the worker's shared memory now.
                batch[name][filled : filled + size] = part
            filled += size
            del chunk, part
        yield batch, bad


def _check_fits(batch: dict[str, np.ndarray], chunk: dict[str, np.ndarray]):
    """Rows of one chunk were compared already; those of two chunks have not been."""
    kinds = [
        {name: (part.dtype.name, part.shape[1:]) for name, part in rows.items()}
        for rows in (batch, chunk)
    ]
    if kinds[0] != kinds[1]:
        raise UserError(f"two rows of a training batch differ: {kinds[0]} and {kinds[1]}")


def _close(opened: list, notes: Notes) -> None:
    if opened:
        chunks, ahead = opened
        opened.clear()
        ended = ahead.stop(seconds=2)
        chunks.close()
        if not ended:  # It waited for a worker, which is gone now.
            ahead.stop(seconds=5)
    notes.close()


def _check_counts(global_batch: int, process_index: int, process_count: int, views: int) -> None:
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not one of {process_count} processes")
    if global_batch < 1 or global_batch % process_count:
        raise UserError(
            f"the global batch must be a positive multiple of the {process_count} processes,"
            f" found {global_batch}"
        )
    if views < 1:
        raise UserError(f"views must be at least 1, found {views}")
