"""A thread that makes the next element while the last one is used."""

import itertools
import threading
import time

import pytest

from maskjax.data import ahead
from maskjax.data.ahead import Ahead


def ignore(seconds):
    pass


def test_all_elements_in_order():
    elements = Ahead(iter(range(50)), ignore)
    assert [next(elements) for _ in range(50)] == list(range(50))
    with pytest.raises(StopIteration):
        next(elements)


def test_one_ahead_and_one_in_the_making():
    asked = []

    def count():
        for number in itertools.count():
            asked.append(number)
            yield number

    elements = Ahead(count(), ignore)
    time.sleep(0.2)
    assert asked == [0, 1]
    assert next(elements) == 0
    assert elements.stop(5)
    assert len(asked) <= 3


def test_errors_come_out_where_the_element_is_waited_for():
    def broken():
        yield 1
        raise KeyError("two")

    elements = Ahead(broken(), ignore)
    assert next(elements) == 1
    with pytest.raises(KeyError, match="two"):
        next(elements)


def test_waiting_is_told_at_growing_intervals_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(ahead, "_WARN_SECONDS", 0.05)
    told, release = [], threading.Event()

    def stalled(seconds):
        told.append(seconds)
        if seconds >= 0.3:
            raise TimeoutError

    def hanging():
        release.wait()
        yield 1

    elements = Ahead(hanging(), stalled, limit=0.3)
    with pytest.raises(TimeoutError):
        next(elements)
    assert told == [0.05, 0.1, 0.2, 0.3]
    assert not elements.stop(0.05)
    release.set()
    assert elements.stop(5)


def test_a_limit_below_the_first_warning():
    told = []

    def stalled(seconds):
        told.append(seconds)
        raise TimeoutError

    release = threading.Event()
    elements = Ahead(iter(release.wait, None), stalled, limit=0.02)
    with pytest.raises(TimeoutError):
        next(elements)
    assert told == [0.02]
    release.set()
    elements.stop(5)
