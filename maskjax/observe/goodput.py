"""Goodput: the share of a run's time that its steps had, and where the rest went."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

PARTS = ("steps", "start", "compile", "data", "evaluate", "save")


class Goodput:
    """Adds up where the time of one start of a run goes.

    Steps have what nothing else has. Time in which the loop waited for data counts as data, though
    up to two steps may still have been running then.
    """

    def __init__(self, began: float, clock: Callable[[], float] = time.monotonic):
        """Counts from `began`, in seconds of the clock."""
        self._began, self._clock = began, clock
        self._spent: dict[str, float] = {}

    def add(self, part: str, seconds: float):
        """Seconds of one of `PARTS` but steps."""
        self._spent[part] = self._spent.get(part, 0.0) + seconds

    def started(self):
        """The first step is next: all until now was the start."""
        self._spent["start"] = self._clock() - self._began

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the time in here."""
        begin = self._clock()
        try:
            yield
        finally:
            self.add(part, self._clock() - begin)

    def shares(self, **parts: float) -> dict[str, float]:
        """{"goodput/steps": 0..1, ...} of the time until now; they add up to 1.

        Args:
            parts: seconds that are counted elsewhere.
        """
        spent = {**self._spent, **parts}
        whole = max(self._clock() - self._began, sum(spent.values()), 1e-9)
        spent["steps"] = whole - sum(spent.values())
        return {f"goodput/{part}": spent.get(part, 0.0) / whole for part in PARTS}


def goodput_text(values: Mapping[str, float]) -> str:
    """ "steps 91 %, compile 5 %, ...", the largest first; "" where nothing was logged."""
    found = {part: values[f"goodput/{part}"] for part in PARTS if f"goodput/{part}" in values}
    rest = sorted((p for p in found if p != "steps"), key=lambda part: -found[part])
    shown = [part for part in ("steps", *rest) if part == "steps" or found.get(part, 0) >= 5e-4]
    return ", ".join(f"{part} {100 * found[part]:.3g} %" for part in shown) if found else ""
