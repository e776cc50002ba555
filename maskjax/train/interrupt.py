"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

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


class ShieldedTransform:
    """A transform that makes the data worker it is sent to ignore both signals.

    A terminal and most schedulers signal the workers as well. They have to go on while the main
    process finishes its step and saves; it ends them itself. If it is killed, they end as well.
    """

    def __init__(self, transform: Callable[..., Any]):
        self.transform = transform

    def __call__(self, *args: Any) -> Any:
        """What the transform returns."""
        return self.transform(*args)

    def __setstate__(self, state: dict[str, Any]):
        self.__dict__.update(state)
        # The name is set before a spawned process unpickles anything; its parent is not.
        in_worker = multiprocessing.current_process().name != "MainProcess"
        # Python lets no other thread set handlers.
        if in_worker and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent():
    while (parent := multiprocessing.parent_process()) is None:
        time.sleep(1)
    parent.join()
    os._exit(1)
