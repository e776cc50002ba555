"""How long a command takes to start: imports, --help, and `maskjax train` to its first step.

    python benchmarks/startup.py [--rounds 5] [--out FILE.json]

Every measurement is a fresh process; all take turns, round after round. Reported are medians of
wall-clock and of CPU time. `train` runs the tiny MAE for one step: with an empty compile cache, and
with the cache that the run before has left.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import record

IMPORTS = ("maskjax", "maskjax.masking", "maskjax.method", "maskjax.train.step", "maskjax.session")
# What it is compared with: jax itself is most of any import above.
REFERENCE = "jax"
CONFIG = record.ROOT / "configs" / "mim" / "mae.py"


def commands() -> dict[str, list[str]]:
    """{name: what Python is given}."""
    sys.path.insert(0, str(record.ROOT))
    from maskjax.cli.main import COMMANDS

    found = {f"import {name}": ["-c", f"import {name}"] for name in (REFERENCE, *IMPORTS)}
    for name in ("", *COMMANDS):
        words = ["-m", "maskjax", *([name] if name else []), "--help"]
        found[" ".join(["maskjax", *words[2:]])] = words
    return found


def seconds(arguments: Sequence[str], cache: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a Python process.

    Raises:
        SystemExit: if it fails; shows what it said.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    environment["PYTHONPATH"] = str(record.ROOT)
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    cpu = after.children_user + after.children_system
    return wall, cpu - before.children_user - before.children_system


def first_step(folder: Path, cache: Path) -> tuple[float, float]:
    """The same of `maskjax train` for one step of the tiny MAE in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    options = ("train.steps=1", "optim.warmup_steps=0", "tensorboard=False")
    given = [f"--config.{option}" for option in options]
    command = ["-m", "maskjax", "train", f"--config={CONFIG}:tiny", f"--workdir={folder}", *given]
    return seconds(command, cache)


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """{what: (wall, CPU) of each round}."""
    plan = commands()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in plan}
    trains = ("train to its first step, empty cache", "train to its first step, warm cache")
    found |= {name: [] for name in trains}
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch) / "run", Path(scratch) / "cache"
        for i in range(rounds):
            for name, arguments in plan.items():
                found[name].append(seconds(arguments, cache))
            shutil.rmtree(cache, ignore_errors=True)
            for name in trains:
                found[name].append(first_step(folder, cache))
            print(f"round {i + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def main(argv: Sequence[str] | None = None):
    """The command."""
    parser = record.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options: argparse.Namespace = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    found = measure(options.rounds)
    print(f"{'':40} {'wall, s':>8} {'CPU, s':>8}")
    medians = {}
    for name, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        medians[name] = {"wall": wall, "cpu": cpu}
        print(f"{name:40} {wall:8.2f} {cpu:8.2f}")
    record.write(options.out, "startup", options, {"medians": medians, "seconds": found})


if __name__ == "__main__":
    main()
