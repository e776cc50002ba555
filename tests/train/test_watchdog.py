"""A loop that does not move is ended, with its stacks and with who is the cause."""

import socket
import subprocess
import sys
from pathlib import Path

from maskjax.train.watchdog import Watchdog

ROOT = Path(__file__).resolve().parents[2]

HANG = """
import pathlib, sys, time
from maskjax.train import processes
from maskjax.train.watchdog import Watchdog

def slow_reader():
    yield "a batch"
    if index == 1:
        time.sleep(600)
    yield "another"

count, index, address, ready = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
processes.start(processes.Place(address, count, index) if count > 1 else processes.Place())
with Watchdog(3, pathlib.Path(sys.argv[1])) as watchdog:
    for batch in watchdog.watched(slow_reader(), 1, ready):
        time.sleep(0.3)
    watchdog.beat("training, with the batch of step 2")
    time.sleep(600)  # in a collective, for the others
"""


def hang(folder, count, ready=0.0, indices=None) -> list[tuple[int, str]]:
    """(exit code, what it printed) of each process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HANG, folder, str(count), str(index), address, str(ready)],
            cwd=ROOT,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in (range(count) if indices is None else indices)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    return [(p.returncode, text) for p, text in zip(started, outputs, strict=True)]


def test_one_process(tmp_path):
    ((code, text),) = hang(tmp_path, 1, indices=[1])
    assert code == 75, text
    assert "(config.processes.hang = 3): waiting for the batch of step 2" in text
    stacks = (tmp_path / "process-0.txt").read_text()
    assert "in slow_reader" in stacks
    assert "in slow_reader" in text


def test_the_process_that_waits_for_data_is_named_first(tmp_path):
    """Both hang: process 1 reads, process 0 waits for it in a collective."""
    results = hang(tmp_path, 2)
    said = [text for code, text in results if "nothing has moved" in text]
    assert said, results
    for text in said:
        assert "the likely cause first: process 1 (" in text
        assert "waiting for the batch of step 2 for" in text
        assert "training, with the batch of step 2 for" in text
    assert 75 in [code for code, _ in results]
    assert 0 not in [code for code, _ in results]


def test_nobody_begins_a_step_that_another_one_has_no_batch_for(tmp_path):
    results = hang(tmp_path, 2, ready=1.0)
    assert results[0][0] == 75, results
    assert (
        "no batch of step 2 within 1 s (config.processes.data_ready) on process 1 ("
        in results[0][1]
    )


def test_a_loop_that_moves_is_left_alone():
    with Watchdog(0.2) as watchdog:
        assert list(watchdog.watched(iter("abc"), 1)) == ["a", "b", "c"]
    with Watchdog(0) as watchdog:
        assert list(watchdog.watched(iter("abc"), 1, ready=1)) == ["a", "b", "c"]
