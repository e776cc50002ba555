"""Killed writers, leftovers, damaged files, two processes: never a wrong state, clear errors."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_state import META, abstract, make, same, saved

from maskjax.errors import UserError
from maskjax.train.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parents[2]


def test_leftovers_are_ignored_and_only_a_writer_removes_them(tmp_path):
    directory = saved(tmp_path, steps=(3,))
    leftover = directory / "5.orbax-checkpoint-tmp"
    shutil.copytree(directory / "3", leftover)
    with Checkpoints(directory, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == [3] and checkpoints.latest_step() == 3
        checkpoints.restore(abstract())
    assert leftover.exists(), "another process may be writing it"
    with Checkpoints(directory, every=1) as checkpoints:
        assert checkpoints.latest_step() == 3
        checkpoints.save(5, make(5), 5, META)
        same(checkpoints.restore(abstract())[0], make(5))
    assert not leftover.exists()


def flip_largest(item: Path) -> None:
    """Change one bit in the middle of the largest file: the arrays."""
    path = max((p for p in item.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(item: Path) -> None:
    for path in item.rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "no meta": lambda d: shutil.rmtree(d / "meta"),
    "no data": lambda d: shutil.rmtree(d / "data"),
    "no state": lambda d: shutil.rmtree(d / "state"),
    "empty meta": lambda d: (d / "meta" / "metadata").write_text(""),
    "no leaf table": lambda d: (d / "meta" / "metadata").write_text('{"format_version": 1}'),
    "broken data": lambda d: (d / "data" / "metadata").write_text('{"position": '),
    "no position": lambda d: (d / "data" / "metadata").write_text("{}"),
    "no arrays": lambda d: (d / "state" / "manifest.ocdbt").unlink(),
    "cut arrays": lambda d: truncate(d / "state"),
    "changed arrays": lambda d: flip_largest(d / "state"),
}


# tensorstore's threads outlive the failed read and complain to the closed event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_names_the_directory(tmp_path, kind):
    kernel = jax.random.normal(jax.random.key(0), (300, 300))
    state = dataclasses.replace(make(), extra={"big": kernel})
    directory = saved(tmp_path, state)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    DAMAGE[kind](directory / "3")
    with (
        Checkpoints(directory, read_only=True) as checkpoints,
        pytest.raises(UserError, match="damaged") as error,
    ):
        checkpoints.restore(target)
    assert str(directory / "3") in str(error.value)


TRAIN = """
import sys, jax, jax.numpy as jnp
from maskjax.train.checkpoint import Checkpoints

def fill(step):
    params = {str(i): jnp.full((1024, 1024), step + i / 8) for i in range(4)}
    return {"step": jnp.int32(step), "params": params}

advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
with Checkpoints(sys.argv[1], every=1, keep_last=2) as checkpoints:
    state = fill(0)
    if checkpoints.latest_step() is not None:
        state, position, _ = checkpoints.restore(jax.eval_shape(fill, 0))
        assert position == 32 * int(state["step"]), position
    while True:
        state = advance(state)
        step = int(state["step"])
        checkpoints.save(step, state, 32 * step, {})
        print(step, flush=True)
"""


def kill_while_saving(directory: Path, min_steps: int, delay: float) -> bool:
    """Train in a process, kill -9 while a step is being written; whether half a step was left."""
    command = [sys.executable, "-c", TRAIN, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        for _ in range(min_steps):
            assert process.stdout.readline(), "the process died by itself"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not list(directory.glob("*tmp*")):
            pass
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    return bool(list(directory.glob("*tmp*")))


def check_steps(directory: Path) -> int:
    """Every listed step must hold exactly what was there at that step; returns the latest."""
    one = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    target = {"step": jax.ShapeDtypeStruct((), jnp.int32), "params": dict.fromkeys("0123", one)}
    with Checkpoints(directory, read_only=True) as checkpoints:
        for step in checkpoints.all_steps()[-2:]:
            state, position, _ = checkpoints.restore(target, step)
            assert state["step"] == step and position == 32 * step
            for i in range(4):
                assert (np.asarray(state["params"][str(i)]) == step + i / 8).all()
        return checkpoints.latest_step()


def test_kill_9_while_saving_never_leaves_a_wrong_step(tmp_path):
    half_written, latest = 0, 0
    for attempt in range(8):
        half_written += kill_while_saving(tmp_path, 2 + attempt % 3, delay=attempt * 0.004)
        before, latest = latest, check_steps(tmp_path)
        assert latest > before, "only the steps since the last finished save may be lost"
        if half_written >= 3 and attempt >= 3:
            return
    pytest.fail("too few kills hit a save; make the state larger")


TWO = """
import sys, jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
from maskjax.train.checkpoint import Checkpoints
mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
make = jax.jit(lambda: {"params": {"w": jnp.arange(32.0).reshape(8, 4)}}, out_shardings=sharding)
with Checkpoints(sys.argv[1], every=1) as checkpoints:
    state = make()
    checkpoints.save(1, state, 5, {})
    checkpoints.wait()
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)
    again, position, _ = checkpoints.restore(like)
    equal = jax.jit(lambda a, b: (a == b).all())(again["params"]["w"], state["params"]["w"])
    assert position == 5 and bool(equal)
"""


def test_saved_by_two_processes_restored_by_one(tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", TWO, str(tmp_path), address]
    runs = [
        subprocess.Popen([*command, str(i)], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        target = {"params": {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32)}}
        state, position, _ = checkpoints.restore(target)
    np.testing.assert_array_equal(state["params"]["w"], np.arange(32.0).reshape(8, 4))
    assert position == 5
