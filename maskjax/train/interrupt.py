"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag; a second SIGINT interrupts as usual.

    Use as a context manager in the main thread around the loop; calling it tells whether a signal
    came. `exit_code` is 128 + the signal, as shells report it.
    """

    def __init__(self):
        self.received: int | None = None
        self._previous = {}

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 if none came."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *exc_info):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None):
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class AgreedStop:
    """The same for several processes: SIGTERM to any of them stops all, after the same step.

    jax's preemption service, which `jax.distributed` starts, hears SIGTERM and lets the processes
    agree on a step. Ctrl-C becomes SIGTERM; a second one interrupts as usual.

    Args:
        reached: step -> whether it is the agreed one; the same on every process.
        start_step: steps done so far; each call means one more.
    """

    def __init__(self, reached: Callable[[int], bool], start_step: int):
        self._reached, self._done = reached, start_step
        self._agreed = self._interrupted = False
        self._previous = signal.SIG_DFL

    def __call__(self) -> bool:
        self._done += 1
        self._agreed = self._agreed or self._reached(self._done)
        return self._agreed

    @property
    def exit_code(self) -> int:
        """143 on every process if they stopped, else 0."""
        return 128 + signal.SIGTERM if self._agreed else 0

    def __enter__(self) -> "AgreedStop":
        self._previous = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *exc_info):
        signal.signal(signal.SIGINT, self._previous)

    def _on_interrupt(self, number: int, frame: FrameType | None):
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        os.kill(os.getpid(), signal.SIGTERM)
