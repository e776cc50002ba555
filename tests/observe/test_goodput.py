"""Where the time went."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskjax.observe.goodput import PARTS, Goodput, goodput_text


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_run_by_hand(clock):
    found = Goodput(90.0, clock)
    found.started()  # 10 s
    clock.now += 70
    with found.measure("save"):
        clock.now += 15
    with found.measure("evaluate"):
        clock.now += 5
    assert found.shares(compile=20.0, data=10.0) == pytest.approx(
        {
            "goodput/steps": 0.4,
            "goodput/start": 0.1,
            "goodput/compile": 0.2,
            "goodput/data": 0.1,
            "goodput/evaluate": 0.05,
            "goodput/save": 0.15,
        }
    )


def test_time_counts_when_the_work_fails(clock):
    found = Goodput(clock.now, clock)
    with pytest.raises(OSError), found.measure("save"):
        clock.now += 1
        raise OSError
    assert found.shares()["goodput/save"] == 1


@given(st.dictionaries(st.sampled_from(PARTS[1:]), st.floats(0, 1e6)), st.floats(0, 1e6))
def test_shares_add_up_to_one(parts, elapsed):
    clock = Clock()
    found = Goodput(clock.now, clock)
    clock.now += elapsed
    shares = found.shares(**parts)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares.values())


def test_as_text():
    values = {"goodput/steps": 0.9123, "goodput/save": 0.01, "goodput/compile": 0.07, "loss": 1}
    assert goodput_text(values) == "steps 91.2 %, compile 7 %, save 1 %"
    assert goodput_text({"loss": 1}) == ""
