"""The first signal asks for a stop; a second Ctrl-C interrupts; data workers ignore both."""

import multiprocessing
import os
import pickle
import signal

import pytest

from maskjax.train.interrupt import SIGNALS, ShieldedTransform, StopRequest


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


def test_a_shielded_transform_is_that_transform():
    shielded = ShieldedTransform(divmod)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    again = pickle.loads(pickle.dumps(shielded))
    assert again(7, 3) == shielded(7, 3) == (2, 1)
    # In the main process nothing changes.
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def handlers(transform, queue):
    queue.put([signal.getsignal(number) == signal.SIG_IGN for number in SIGNALS])
    queue.put(transform(7, 3))


def test_a_worker_that_gets_it_ignores_both_signals():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=handlers, args=(ShieldedTransform(divmod), queue))
    worker.start()
    assert queue.get(timeout=120) == [True, True]
    assert queue.get(timeout=10) == (2, 1)
    worker.join()
    assert worker.exitcode == 0
