"""A function of every example of a source, in several processes, results in order."""

import concurrent.futures
import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from maskjax.data.workers import Notes, dead_notes, ignore
from maskjax.errors import UserError

T = TypeVar("T")

_CHUNK = 32
_in_worker: dict[str, Callable] = {}


def walk(look: Callable[[int], T], numbers: Sequence[int], workers: int) -> Iterator[list[T]]:
    """``look(n)`` for every number, a chunk at a time.

    Args:
        look: picklable if workers > 0.
        numbers: of examples.
        workers: processes; 0 does it here.

    Raises:
        UserError: a process died; says which examples it was at.
    """
    chunks = (numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK))
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
    ignore(signal.SIGINT)  # Ctrl-C is for the parent; a broken pool ends the others by SIGTERM.
    _in_worker.update(look=look, note=notes.write)


def _run(chunk: Sequence[int]) -> list:
    found = []
    for number in chunk:
        _in_worker["note"](f"example {number}")
        found.append(_in_worker["look"](number))
    _in_worker["note"]("")
    return found
