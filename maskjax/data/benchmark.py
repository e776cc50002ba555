"""How fast a data set becomes batches: one stage at a time in one thread, and whole pipelines."""

import dataclasses
import itertools
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from maskjax.data.decode import Decoding, decode
from maskjax.data.examples import Bad, ExampleError, listing, read_example, transformed
from maskjax.data.fields import as_fields, stack
from maskjax.data.order import training_order
from maskjax.data.random import host_rng
from maskjax.data.rows import Transform
from maskjax.data.source import Source
from maskjax.data.train import train_iterator
from maskjax.errors import UserError

# Examples that are kept in memory to time the stages behind reading.
_KEPT = 128

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Stage:
    """images and the seconds they took, in one thread."""

    name: str
    images: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclasses.dataclass(frozen=True)
class Measured:
    """A whole pipeline.

    Attributes:
        workers, threads: processes beside this one (0 = none), and threads in each.
        rate: rows per second, after warming up.
        startup: seconds to the first batch.
        ahead: rows that are read ahead, at most, in each worker (without workers: here).
        row_bytes: of one row.
        memory: bytes of each worker, shared pages divided among those who share them; () unknown.
    """

    workers: int
    threads: int
    rate: float
    startup: float
    ahead: int
    row_bytes: int
    memory: tuple[int, ...]

    @property
    def name(self) -> str:
        """ "2 workers x 1 thread" or "4 threads"."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return (
            f"{self.workers} worker{'s' * (self.workers != 1)} x {threads}"
            if self.workers
            else threads
        )


def time_stages(
    source: Source,
    transform: Transform,
    put: Callable[[dict[str, np.ndarray]], Any],
    *,
    rows: int,
    seconds: float,
    channels: int | None = None,
    decoding: Decoding | None = None,
) -> Iterator[Stage]:
    """Times each stage for about so many seconds, in this thread.

    Args:
        source: see ``data.source``; its unusable examples are left out.
        transform: see ``data.train``.
        put: takes a batch to the devices and waits until it is there.
        rows: of a batch.
        seconds: for each stage.
        channels, decoding: of encoded images, which are also decoded alone if they are given.

    Raises:
        UserError: none of the first examples can be used.
    """
    examples, read = _read(source, seconds)
    yield read
    if decoding and isinstance(examples[0].get("image"), bytes):
        yield _time(
            "decode alone, at full size",
            lambda example: decode(example["image"], channels, example["id"], decoding),
            itertools.cycle(examples),
            seconds,
        )[1]
    numbered = enumerate(itertools.cycle(examples))
    made, stage = _time(
        "decode and augment",
        lambda pair: as_fields(transformed(transform, pair[1], host_rng(0, "augment", pair[0]))),
        numbered,
        seconds,
    )
    yield stage
    batch = list(itertools.islice(itertools.cycle(made), rows))
    names = [str(number) for number in range(rows)]
    batches, stage = _time(
        "batch", lambda _: stack(batch, names), itertools.count(), seconds, rows, keep=1
    )
    yield stage
    yield _time("host to device", lambda _: put(batches[0]), itertools.count(), seconds, rows)[1]


def time_pipeline(
    source: Source,
    transform: Transform,
    *,
    workers: int,
    threads: int,
    rows: int,
    views: int,
    seconds: float,
) -> Measured:
    """Reads batches of so many rows for so many seconds with a number of workers and threads.

    Unusable examples are skipped as in training; more than half of them are an error.
    """
    start = time.perf_counter()
    with train_iterator(
        source,
        transform,
        seed=0,
        global_batch=rows,
        workers=workers,
        threads=threads,
        views=views,
        on_error="skip",
        bad_share=0.5,
    ) as stream:
        first = next(stream)
        startup = time.perf_counter() - start
        ahead = stream.buffers.rows
        # What was read ahead while the clock stood must not count.
        for _ in range(1 + ahead * max(1, workers) // rows):
            next(stream)
        start, batches = time.perf_counter(), 0
        while time.perf_counter() < start + seconds or batches < 2:
            next(stream)
            batches += 1
        rate = batches * rows / (time.perf_counter() - start)
        found = [memory(child.pid) for child in multiprocessing.active_children()]
        return Measured(
            workers,
            stream.buffers.threads,
            rate,
            startup,
            ahead,
            sum(part.nbytes for part in first.values()) // rows,
            tuple(size for size in found if size),
        )


def settings(cores: int) -> list[tuple[int, int]]:
    """(workers, threads) worth trying on so many cores: threads only, and 1, 2, 4, ... workers."""
    powers = [2**power for power in range(cores.bit_length()) if 2**power <= cores]
    return [(0, cores), *((workers, cores // workers) for workers in sorted({*powers, cores}))]


def recommend(found: Sequence[Measured], need: float | None, cores: int) -> list[str]:
    """What to set, as sentences.

    The fewest processes that make the need, and a tenth more, or within a twentieth of the best.

    Args:
        found: at least one.
        need: images per second that this process has to feed, or None.
        cores: of this machine.
    """
    best = max(found, key=lambda one: one.rate)
    enough = 0.95 * best.rate if need is None else 1.1 * need
    good = [one for one in found if one.rate >= enough]
    if good:
        one = min(good, key=lambda one: (one.workers, one.threads))
        advice = [f"recommended: --config.data.workers={one.workers} ({one.rate:,.0f} images/s)"]
        return advice if need is None else [f"{advice[0]}, for a need of {need:,.0f}"]
    per_core = best.rate / cores
    return [
        f"the input would be the limit: at most {best.rate:,.0f} images/s ({best.name}) for a need"
        f" of {need:,.0f}, which takes about {1.1 * need / per_core:.0f} cores like these {cores}.",
        "What helps: config.data.resample=simd or opencv; config.data.views=2 or more (several"
        " crops of each decoded image); smaller files (short side 256 to 320); more hosts.",
    ]


def memory(pid: int) -> int | None:
    """Bytes of memory of a process, shared pages counted by halves, thirds, ...; Linux only."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _read(source: Source, seconds: float) -> tuple[list[dict[str, Any]], Stage]:
    order, bad, examples, count = training_order(source, 0), [], [], 0
    start = time.perf_counter()
    while time.perf_counter() < start + seconds and count < max(_KEPT, len(source)):
        number = order[count]
        count += 1
        try:
            example = read_example(source, number)
        except ExampleError as error:
            bad.append(Bad(number, error.name, str(error)))
            continue
        if len(examples) < _KEPT:
            examples.append(example)
    stage = Stage("read", count, time.perf_counter() - start)
    if not examples:
        raise UserError(f"none of the first {count} examples can be used:\n{listing(bad)}")
    return examples, stage


def _time(
    name: str,
    work: Callable[[T], Any],
    things: Iterator[T],
    seconds: float,
    images: int = 1,
    keep: int = _KEPT,
) -> tuple[list[Any], Stage]:
    """Results of the first few things that work, and the time of all; images in each."""
    kept, count, failed = [], 0, 0
    start = time.perf_counter()
    for thing in things:
        try:
            result = work(thing)
        except UserError:  # An unusable example; if all are, say so.
            failed += 1
            if not kept and failed > _KEPT:
                raise
            continue
        count += 1
        if len(kept) < keep:
            kept.append(result)
        if time.perf_counter() > start + seconds:
            break
    return kept, Stage(name, count * images, time.perf_counter() - start)
