"""What the benchmarks share: contestants in processes of their own that take turns on one core.

A contestant is a script that is started with a JSON object as its only argument, prints
{"versions": ...} once it is warm, and answers every line `n` on its standard input with
{"seconds": ...}: process CPU time of one unit of work, averaged over n of them (`serve`). All run
in turn, round after round, so that whatever else the machine does falls on all of them; compared
are medians over the rounds.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "runs" / "benchmarks"
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}


class Contestant:
    """A running process that works on demand.

    Args:
        script: a file of this folder.
        task: what it is told; has "name" and "core".
        python: the interpreter, if another environment holds what it needs.
    """

    def __init__(self, script: str, task: dict[str, Any], python: str = sys.executable):
        self.name = task["name"]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        environment = {**os.environ, **ONE_THREAD}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        self._process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )

    def versions(self) -> dict[str, str]:
        """Waits until it is warm; what it runs on."""
        return self._answer()["versions"]

    def seconds(self, units: int) -> float:
        """CPU seconds of one unit of work, averaged over `units` of them."""
        print(units, file=self._process.stdin, flush=True)
        return self._answer()["seconds"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            tail = "".join(self._errors.readlines()[-15:])
            raise SystemExit(f"{self.name} failed:\n{tail}")
        return json.loads(line)

    def close(self):
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._errors.close()


def serve(prepare: Callable[[dict[str, Any]], tuple[Callable[[int], None], dict[str, str]]]):
    """The contestant's side: prepares, then works on demand until standard input ends.

    Args:
        prepare: task -> (run, versions); `run(n)` does n units of work and is called once, warm.
    """
    task = json.loads(sys.argv[1])
    # Before any library starts its threads, which inherit it.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {task["core"]})
    run, versions = prepare(task)
    # From one answer to the next: what is read ahead while nobody waits is paid for as well.
    began = time.process_time()
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        units = int(line)
        run(units)
        now = time.process_time()
        print(json.dumps({"seconds": (now - began) / units}), flush=True)
        began = now


@contextlib.contextmanager
def started(names: Sequence[str], start: Callable[[str], Contestant]) -> Iterator[list[Contestant]]:
    """Processes of the contestants; ended on the way out."""
    running: list[Contestant] = []
    try:
        for name in names:
            running.append(start(name))
        yield running
    finally:
        for contestant in running:
            contestant.close()


def measure(
    names: Sequence[str], start: Callable[[str], Contestant], *, rounds: int, units: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """({name: CPU seconds of one unit, one for each round}, versions)."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    versions = {"python": platform.python_version()}
    with started(names, start) as contestants:
        for contestant in contestants:
            versions |= contestant.versions()
            print(f"ready: {contestant.name}", file=sys.stderr, flush=True)
        for i in range(rounds):
            for contestant in contestants:
                seconds[contestant.name].append(contestant.seconds(units))
            print(f"round {i + 1} of {rounds}", file=sys.stderr, flush=True)
    return seconds, versions


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summarize(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Medians, quartiles and speed relative to the first contestant (higher is faster)."""
    reference = statistics.median(next(iter(seconds.values())))
    summary = {}
    for name, values in seconds.items():
        low, middle, high = quartiles(values)
        times = {"median_seconds": middle, "lower_quartile": low, "upper_quartile": high}
        summary[name] = {"speed": reference / middle, **times}
    return summary


def add_options(parser: argparse.ArgumentParser, *, rounds: int, units: int, unit: str, out: str):
    """--rounds, --UNIT (as ``units``), --core and --out."""
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(f"--{unit}", dest="units", type=int, default=units, help="in a round")
    last = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    parser.add_argument("--core", type=int, default=last, help="default: the last one allowed")
    parser.add_argument("--out", type=Path, help=f"default: runs/benchmarks/{out}")


def write(out: Path, settings: dict[str, Any], versions: dict[str, str], seconds: dict) -> dict:
    """Writes the record as JSON; returns it."""
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **settings,
        "machine": platform.machine(),
        "versions": versions,
        "summary": summarize(seconds),
        "seconds": seconds,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    return record


def show(record: dict[str, Any], about: Sequence[str], unit: str, scale: float = 1000.0):
    """Prints the table; scale 1000 shows milliseconds, 1e6 microseconds."""
    print(", ".join(f"{key} {record[key]}" for key in about))
    print(", ".join(f"{key} {value}" for key, value in record["versions"].items()))
    reference = next(iter(record["summary"]))
    heading = f"CPU {'ms' if scale == 1000 else 'us'} per {unit} (quartiles)"
    print(f"\n{'contestant':28} {'speed':>6}  {heading:>30}  {'per second':>10}")
    for name, row in record["summary"].items():
        low, middle, high = (
            f"{scale * row[key]:.1f}"
            for key in ("lower_quartile", "median_seconds", "upper_quartile")
        )
        times, rate = f"{middle} ({low} .. {high})", f"{1 / row['median_seconds']:,.0f}"
        print(f"{name:28} {row['speed']:6.2f}  {times:>30}  {rate:>10}")
    print(f"\nspeed: relative to {reference}, higher is faster; one core, one thread")
