"""Rate, ETA and the progress line."""

import io

import pytest

from maskjax.observe.progress import Progress, Throughput, format_duration, format_rate


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.125, "0.125"), (8.25, "8.25"), (812.4, "812"), (54500, "54,500")]
)
def test_rates(rate, text):
    assert format_rate(rate) == text


def test_compile_time_is_not_counted():
    clock = Clock()
    rate = Throughput(clock=clock)
    clock.now = 100.0
    assert rate.mark(64) is None
    clock.now = 102.0
    assert rate.mark(264) == 100.0


def test_pauses_are_not_counted_and_the_window_moves():
    clock = Clock()
    rate = Throughput(window=2, clock=clock)
    rate.mark(0)
    clock.now = 1.0
    rate.mark(10)
    with rate.pause():
        clock.now = 50.0
    clock.now = 51.0
    assert rate.mark(20) == 10.0
    for _ in range(2):
        clock.now += 1
        latest = rate.mark(20 + round(clock.now - 51) * 100)
    assert latest == 100.0
    rate.restart()
    assert rate.rate is None


def test_plain_lines_when_piped():
    clock, stream = Clock(), io.StringIO()
    with Progress(
        1000, 64, steps_per_epoch=100, start_step=0, stream=stream, clock=clock
    ) as progress:
        progress.update(50, {"loss": 1.23456})
        with progress.pause():
            clock.now = 70.0
        clock.now = 75.0
        rate = progress.update(100, {"loss": 0.5})
    assert rate == progress.images_per_second == 640.0
    assert stream.getvalue().splitlines() == [
        "step 50/1,000 (5 %)  epoch 0.50  loss 1.2346  measuring images/s",
        "step 100/1,000 (10 %)  epoch 1.00  loss 0.5000  640 images/s  ETA 1 min 30 s",
    ]


def test_a_bar_on_a_terminal_and_silence_elsewhere(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(100, 8, stream=stream) as progress:
        progress.update(50, {"loss": 0.25})
    assert "50/100" in stream.getvalue()
    assert "loss 0.2500" in stream.getvalue()
    quiet = io.StringIO()
    Progress(100, 8, stream=quiet, enabled=False).update(50, {})
    assert quiet.getvalue() == ""
