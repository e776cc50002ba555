"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal
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
