"""The first signal asks for a stop; a second Ctrl-C interrupts."""

import os
import signal

import pytest

from maskjax.train.interrupt import SIGNALS, StopRequest


def send(number: int):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_flag(number, code):
    with StopRequest() as stop:
        assert not stop()
        assert stop.exit_code == 0
        send(number)
        assert stop()
        assert stop.exit_code == code
    assert stop()
    assert stop.exit_code == code


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_interrupts(first):
    with StopRequest() as stop:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert stop()


def test_a_second_sigterm_does_not(tmp_path):
    """Schedulers repeat it while they wait; the save goes on."""
    with StopRequest() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop.exit_code == 143


def test_handlers_are_put_back_even_after_an_error():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.raises(RuntimeError), StopRequest():
        assert all(signal.getsignal(number) != before[number] for number in before)
        raise RuntimeError
    assert {number: signal.getsignal(number) for number in before} == before


def test_no_signal():
    with StopRequest() as stop:
        pass
    assert not stop()
    assert stop.exit_code == 0
