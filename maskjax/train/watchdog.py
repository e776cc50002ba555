"""A run that hangs, which nobody else ends: the devices wait in a collective, heartbeats go on.

Each process watches its own loop from a thread. Where the loop has not moved for too long, the
stacks of all threads are written down, the processes compare what each of them is doing, and the
process leaves with the exit code for a restart.
"""

import faulthandler
import json
import logging
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import jax

from maskjax.train import blackboard, processes

log = logging.getLogger(__name__)
Item = TypeVar("Item")


class Watchdog:
    """A context manager around the loop of one process.

    Args:
        seconds: without a `beat`, after which the process is ended; 0 = never.
        folder: where the stacks are written to, as `process-<i>.txt`; None = only to stderr.
    """

    def __init__(self, seconds: float, folder: pathlib.Path | None = None):
        self._seconds, self._folder = seconds, folder
        self._doing, self._since = "starting", time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, doing: str) -> None:
        """The loop moves: what it does from now on."""
        self._doing, self._since = doing, time.monotonic()

    def watched(self, batches: Iterator[Item], first_step: int, ready: float = 0) -> Iterator[Item]:
        """The same items, with beats.

        Args:
            batches: one a step.
            first_step: that the first is for.
            ready: seconds within which all processes must have the batch of a step, before any of
                them begins it; 0 = they need not wait for each other here.
        """
        step = first_step
        while True:
            self.beat(f"waiting for the batch of step {step}")
            batch = next(batches, None)
            if batch is None:
                return
            if ready > 0:
                self._wait_for_all(step, ready)
            self.beat(f"training, with the batch of step {step}")
            yield batch
            step += 1

    def __enter__(self) -> "Watchdog":
        if self._seconds > 0:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()

    def _wait_for_all(self, step: int, seconds: float) -> None:
        late = blackboard.wait(f"batch/{step}", seconds)
        if late:
            processes.leave(
                processes.RESTART,
                f"no batch of step {step} within {seconds:g} s (config.processes.data_ready) on"
                f" {processes.called(late)}. {self._comparison()}",
            )

    def _watch(self) -> None:
        pause = min(10.0, self._seconds / 5)
        while not self._over.wait(pause):
            still = time.monotonic() - self._since
            blackboard.post("doing", json.dumps([self._doing, still, time.time()]))
            if still > self._seconds:
                self._write_stacks()
                processes.leave(
                    processes.RESTART,
                    f"nothing has moved for {still:.0f} s (config.processes.hang ="
                    f" {self._seconds:g}): {self._doing}. {self._comparison()}",
                )

    def _write_stacks(self) -> None:
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"process-{jax.process_index()}.txt"
            with path.open("w") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            log.error("the stacks of all threads are in %s", path)
        except OSError as error:
            log.error("the stacks could not be written: %s", error)

    def _comparison(self) -> str:
        """What each process is doing, those first that say nothing any more or wait for data."""
        notes = {index: json.loads(text) for index, text in blackboard.read("doing").items()}
        count = len(processes.names())
        if count == 1:
            return "One process"
        lines, now = [], time.time()
        for index in range(count):
            doing, still, said = notes.get(index, ("nothing known", 0.0, 0.0))
            silent = now - said if said else None
            quiet = silent is not None and silent > max(30.0, self._seconds)
            order = 0 if silent is None or quiet else 1 if doing.startswith("waiting for") else 2
            tail = f" for {still:.0f} s" + (f", silent for {silent:.0f} s" if quiet else "")
            lines.append((order, f"{processes.called([index])}: {doing}{tail}"))
        return "Each process, the likely cause first: " + "; ".join(
            text for _, text in sorted(lines)
        )
