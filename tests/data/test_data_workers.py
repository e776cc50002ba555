"""Data workers: what they ignore, and the notes they leave."""

import multiprocessing
import os
import pickle
import signal
import threading
from pathlib import Path

import pytest

from maskjax.data.workers import Notes, explain_death, shield


def report(queue):
    shield(0, 1)
    queue.put([signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM)])


def test_a_shielded_worker_ignores_both_signals():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=report, args=(queue,))
    worker.start()
    assert queue.get(timeout=120) == [True, True]
    worker.join()
    assert worker.exitcode == 0


def test_notes_are_read_by_process_and_thread():
    notes = Notes()
    notes.write("cat.png")
    thread = threading.Thread(target=pickle.loads(pickle.dumps(notes)).write, args=("dog.png",))
    thread.start()
    thread.join()
    assert {pid: set(texts) for pid, texts in notes.read().items()} == {
        os.getpid(): {"cat.png", "dog.png"}
    }
    notes.write("")
    assert notes.read() == {os.getpid(): ["dog.png"]}


def test_notes_of_any_length_and_alphabet():
    notes = Notes()
    for text in ("é\udcff/日本.jpg", "x" * 5000):
        notes.write(text)
        (found,) = notes.read()[os.getpid()]
        assert found[:50] == text.encode(errors="replace").decode()[:50]


def test_the_owner_removes_the_folder_and_a_copy_does_not():
    notes = Notes()
    notes.write("cat.png")
    del_copy = pickle.loads(pickle.dumps(notes))
    del del_copy
    assert Path(notes.folder).is_dir()
    notes.close()
    assert not Path(notes.folder).exists()


@pytest.mark.parametrize(
    ("code", "hint"),
    [(-9, "out of memory"), (-7, "shm"), (-11, "crashed"), (3, "exit code 3 between two")],
)
def test_a_death_is_explained(code, hint):
    error = RuntimeError(f"Worker process was terminated unexpectedly with exit code {code}. Logs")
    assert hint in str(explain_death(error, Notes()))


def test_other_errors_are_not():
    assert explain_death(ValueError("Worker"), Notes()) is None
