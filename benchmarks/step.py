"""The MAE training step against Hugging Face's ViTMAEForPreTraining, as ratios.

    python benchmarks/step.py [--size tiny] [--batch 8] [--rounds 7] [--out FILE.json]

A step is forward, backward and AdamW with the same hyper-parameters. Every contestant is a process
of its own on one core and one thread; all run in turn, round after round, so that whatever else the
machine does falls on all of them. Compared are medians over the rounds of process CPU time: only
ratios mean anything on another machine, and differences under 10 % mean nothing. Without PyTorch
and transformers (`make test-torch` installs them) only our own variants run.
"""

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from contestants import BATCHES, ONE_THREAD, OURS, SIZES, THEIRS

HERE = Path(__file__).resolve().parent


class Contestant:
    """A running process that makes steps on demand."""

    def __init__(self, task: dict[str, Any]):
        self.name = task["name"]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        environment = {**os.environ, **ONE_THREAD}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        command = [sys.executable, str(HERE / "contestants.py"), json.dumps(task)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )

    def versions(self) -> dict[str, str]:
        """Waits until it is warm; what it runs on."""
        return self._answer()["versions"]

    def seconds(self, steps: int) -> float:
        """CPU seconds of one step, averaged over `steps` of them."""
        print(steps, file=self._process.stdin, flush=True)
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


def available() -> tuple[str, ...]:
    """Names of the contestants that can run here."""
    installed = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    return (THEIRS if installed else ()) + OURS


def chosen(names: Sequence[str], dtypes: Sequence[str]) -> list[str]:
    """The contestants that were asked for, in the order of `available`.

    Raises:
        SystemExit: naming what cannot run here.
    """
    missing = [name for name in names if name not in available()]
    if missing:
        raise SystemExit(
            f"no contestant {', '.join(missing)} here; there are: {', '.join(available())}"
            " (hf/... need PyTorch and transformers)"
        )
    found = names or available()
    return [n for n in available() if n in found and (not dtypes or n.split("/")[1] in dtypes)]


@contextlib.contextmanager
def started(names: Sequence[str], options: argparse.Namespace) -> Iterator[list[Contestant]]:
    """Processes of the contestants; ended on the way out."""
    running: list[Contestant] = []
    try:
        for name in names:
            task = {"name": name, "size": options.size, "batch": options.batch}
            running.append(Contestant(task | {"core": options.core}))
        yield running
    finally:
        for contestant in running:
            contestant.close()


def measure(names: Sequence[str], options: argparse.Namespace) -> tuple[dict, dict]:
    """({name: CPU seconds of a step, one for each round}, versions)."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    versions = {"python": platform.python_version()}
    with started(names, options) as contestants:
        for contestant in contestants:
            versions |= contestant.versions()
            print(f"ready: {contestant.name}", file=sys.stderr, flush=True)
        for i in range(options.rounds):
            for contestant in contestants:
                seconds[contestant.name].append(contestant.seconds(options.steps))
            print(f"round {i + 1} of {options.rounds}", file=sys.stderr, flush=True)
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


def show(summary: dict[str, dict[str, float]], record: dict[str, Any]):
    """Prints the table."""
    about = {key: record[key] for key in ("size", "batch", "rounds", "steps")}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(", ".join(f"{key} {value}" for key, value in record["versions"].items()))
    reference = next(iter(summary))
    print(f"\n{'contestant':24} {'speed':>6}  {'CPU ms per step (quartiles)':>30}")
    for name, row in summary.items():
        low, middle, high = (
            f"{1000 * row[key]:.1f}"
            for key in ("lower_quartile", "median_seconds", "upper_quartile")
        )
        print(f"{name:24} {row['speed']:6.2f}  {f'{middle} ({low} .. {high})':>30}")
    print(f"\nspeed: relative to {reference}, higher is faster; one core, one thread")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with defaults filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--batch", type=int, help=f"images per step; default by size: {BATCHES}")
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=())
    names = ", ".join(THEIRS + OURS)
    parser.add_argument("--contestants", nargs="+", default=(), metavar="NAME", help=names)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps in a round")
    parser.add_argument("--core", type=int, help="which core; default: the last one allowed")
    parser.add_argument("--out", type=Path, help="default: runs/benchmarks/step_SIZE.json")
    options = parser.parse_args(argv)
    if min(options.rounds, options.steps, options.batch or 1) < 1:
        parser.error("--rounds, --steps and --batch must be at least 1")
    options.batch = options.batch or BATCHES[options.size]
    if options.core is None:
        options.core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    default = HERE.parent / "runs" / "benchmarks" / f"step_{options.size}.json"
    options.out = options.out or default
    return options


def main(argv: Sequence[str] | None = None):
    """The command."""
    options = parse(argv)
    names = chosen(options.contestants, options.dtype)
    if not names:
        raise SystemExit(f"no contestant is left of {', '.join(available())}")
    seconds, versions = measure(names, options)
    summary = summarize(seconds)
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "size": options.size,
        "batch": options.batch,
        "rounds": options.rounds,
        "steps": options.steps,
        "machine": platform.machine(),
        "versions": versions,
        "summary": summary,
        "seconds": seconds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    show(summary, record)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
