"""A function of every example of a source, in several processes, results in order."""

import concurrent.futures
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from maskjax.data.workers import Notes, dead_notes, shield
from maskjax.errors import UserError

T = TypeVar("T")

_CHUNK = 32
_in_worker: dict[str, Callable] = {}


def walk(look: Callable[[int], T], count: int, workers: int) -> Iterator[list[T]]:
    """``look(n)`` for n in 0 .. count - 1, a chunk at a time.

    Args:
        look: picklable if workers > 0.
        count: how many.
        workers: processes; 0 does it here.

    Raises:
        UserError: a process died; says which examples it was at.
    """
    chunks = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    if not workers:
        yield from ([look(number) for number in chunk] for chunk in chunks)
        return
    notes = Notes()
    with concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start, (look, notes)
    ) as pool:
        try:
            running = deque(
                pool.submit(_run, chunk) for chunk in itertools.islice(chunks, 4 * workers)
            )
            while running:
                done = running.popleft().result()
                running.extend(pool.submit(_run, chunk) for chunk in itertools.islice(chunks, 1))
                yield done
        except BrokenProcessPool as error:
            names = ", ".join(dead_notes(notes)) or "nothing"
            raise UserError(
                f"a worker process died (killed, out of memory, or crashed) at: {names}"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            notes.close()


def _start(look: Callable, notes: Notes):
    shield(0, 1)
    _in_worker.update(look=look, note=notes.write)


def _run(chunk: range) -> list:
    found = []
    for number in chunk:
        _in_worker["note"](f"example {number}")
        found.append(_in_worker["look"](number))
    _in_worker["note"]("")
    return found
