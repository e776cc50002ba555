"""Runs of the tiny experiment through the real commands, in this process or in their own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

from maskjax import build
from maskjax.cli.main import main
from maskjax.observe.metrics_file import read_metrics
from maskjax.saved import read_config
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.leaves import by_name

ROOT = Path(__file__).resolve().parents[1]
TINY = f"--config={ROOT / 'configs/mim/mae.py'}:tiny"
# Few steps, each with its line; one checkpoint at the end unless a test wants more. What
# changes the compiled step (its length, the optimizer) is the same in most tests, so that it is
# compiled once.
STEPS = 24
SHORT = (
    f"--config.train.steps={STEPS}",
    "--config.optim.ema=0.9",
    "--config.train.log_every=1",
    "--config.checkpoint.every=0",
    "--config.tensorboard=False",
)


def maskjax(*argv) -> int:
    """The exit code of `maskjax ARGV`."""
    try:
        return main([str(arg) for arg in argv])
    except SystemExit as error:
        return int(error.code)


def train(workdir, *overrides, config=TINY) -> int:
    """The exit code of a short training run; overrides are without "--config."."""
    return maskjax(*command(workdir, *overrides, config=config))


def command(workdir, *overrides, config=TINY) -> list[str]:
    """Its arguments."""
    given = [f"--config.{override}" for override in overrides]
    keys = {override.partition("=")[0] for override in given}
    defaults = [option for option in SHORT if option.partition("=")[0] not in keys]
    return ["train", config, f"--workdir={workdir}", *defaults, *given]


def start(workdir, *overrides, devices=8, **options) -> subprocess.Popen:
    """The same in a process of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "maskjax", *command(workdir, *overrides)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def lines(workdir) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that training steps wrote."""
    return [line for line in read_metrics(Path(workdir) / "metrics.jsonl") if "loss" in line]


def losses(workdir) -> dict[int, float]:
    """{step: loss}; fails if a step is there twice."""
    found = [(int(line["step"]), line["loss"]) for line in lines(workdir)]
    assert len(dict(found)) == len(found), f"a step is logged twice: {found}"
    return dict(found)


def exact(workdir) -> dict[int, dict[str, float]]:
    """{step: its line without what depends on the clock}."""
    clock = ("time", "images_per_second", "mfu", "data/wait")
    return {
        int(line["step"]): {
            key: value
            for key, value in line.items()
            if key not in clock and not key.startswith("goodput/")
        }
        for line in lines(workdir)
    }


def steps_saved(workdir) -> list[int]:
    """The steps of the finished checkpoints."""
    names = [path.name for path in (Path(workdir) / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


def saved_state(workdir, step=None) -> tuple[dict[str, np.ndarray], int]:
    """({name: array} of the whole state in a checkpoint, position of the next example)."""
    config = read_config(Path(workdir))
    parts = build.experiment(config, 1400)
    with Checkpoints(Path(workdir) / "checkpoints", read_only=True) as checkpoints:
        state, position, _ = checkpoints.restore(parts.abstract_state, step)
    return {name: np.asarray(jax.device_get(x)) for name, x in by_name(state).items()}, position


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
    """Every array equal, bit for bit."""
    assert found.keys() == expected.keys()
    different = [name for name in found if found[name].tobytes() != expected[name].tobytes()]
    assert not different


def wait_for(condition, process: subprocess.Popen | None = None, seconds: float = 120):
    """Polls until the condition holds; fails if the process ends or the time is over before."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}:\n{process.stdout.read()}")
        time.sleep(0.002)


@contextlib.contextmanager
def signal_when(condition, number: int):
    """Sends this process a signal as soon as the condition holds; harmless if it comes too late."""
    over = threading.Event()

    def watch():
        while not over.is_set():
            if condition():
                os.kill(os.getpid(), number)
                return
            time.sleep(0.002)

    previous = signal.signal(number, lambda *_: None)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(number, previous)
