"""An iterator that runs in a thread, one element ahead, and never waits in silence."""

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_WARN_SECONDS = 60.0


class Ahead(Iterator[T], Generic[T]):
    """The elements of ``elements``, made in a thread of their own, one ahead.

    Args:
        elements: used in that thread only.
        stalled: called with the seconds that ``next`` has been waiting: after a minute, each time
            they have doubled, and at the limit; may raise.
        limit: seconds, or 0.
    """

    def __init__(self, elements: Iterator[T], stalled: Callable[[float], None], limit: float = 0):
        self._elements, self._stalled, self._limit = elements, stalled, limit or math.inf
        self._made: queue.Queue = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maskjax-data", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        patience, waited = min(_WARN_SECONDS, self._limit), 0.0
        while True:
            try:
                element, error = self._made.get(timeout=patience - waited)
                break
            except queue.Empty:
                self._stalled(patience)
                waited, patience = patience, 2 * patience
                if waited < self._limit:
                    patience = min(patience, self._limit)
        if error is not None:
            raise error
        return element

    def stop(self, seconds: float) -> bool:
        """Asks the thread to end; whether it did within so many seconds."""
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            self._made.get_nowait()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self):
        try:
            while not self._stop.is_set():
                self._put((next(self._elements), None))
        except BaseException as error:  # Raised again where the element is waited for.
            self._put((None, error))

    def _put(self, item):
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._made.put(item, timeout=0.1)
                return
