"""A cache of the values that were used last: bounded, safe with threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


def _one(_: Any) -> int:
    return 1


class Recent:
    """Values by key, made when asked for; the longest unused go when there are too many.

    Two threads that want the same value at once make it once. A pickled copy is empty.

    Args:
        capacity: the weights of the values that are kept add up to this at most; one value is kept
            whatever it weighs.
        weigh: value -> weight; a function of a module.
    """

    def __init__(self, capacity: int, weigh: Callable[[Any], int] = _one):
        self._capacity, self._weigh = capacity, weigh
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def __reduce__(self):
        return Recent, (self._capacity, self._weigh)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, from ``make`` if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._keep(key, value)
        return value

    def _keep(self, key: Hashable, value: Any) -> None:
        # Under a different `turn`, a second thread may have made the same value meanwhile.
        if key in self._values:
            return
        self._values[key] = value
        self._total += self._weigh(value)
        while self._total > self._capacity and len(self._values) > 1:
            self._total -= self._weigh(self._values.popitem(last=False)[1])
