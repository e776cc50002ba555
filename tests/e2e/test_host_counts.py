"""The same run on 1 x 8, 2 x 4 and 4 x 2 processes x devices, as `launch/local.sh` starts them."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import runs

LAUNCH = runs.ROOT / "launch/local.sh"


def launch(count, workdir, *overrides, devices, **environment) -> subprocess.Popen:
    """So many processes of the short run, with so many devices each."""
    settings = {"PYTHON": sys.executable, "DEVICES": str(devices), "XLA_FLAGS": "", **environment}
    return subprocess.Popen(
        [LAUNCH, str(count), *runs.command(workdir, *overrides)],
        cwd=runs.ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def process_ids(workdir) -> list[int]:
    """Of a run that has begun, by index."""
    facts = json.loads((workdir / "run.json").read_text())
    return [int(name.rpartition(":")[2]) for name in facts["processes"]]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One process with 8 devices."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    assert runs.train(workdir, "checkpoint.every=8") == 0
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("target", [0, 1])
def test_sigterm_to_any_of_two_saves_at_an_agreed_step_and_four_go_on(one, tmp_path, target):
    workdir = tmp_path / "run"
    first = launch(2, workdir, "checkpoint.every=100", devices=4)
    runs.wait_for(
        lambda: (workdir / "metrics.jsonl").exists() and len(runs.lines(workdir)) >= 3, first
    )
    os.kill(process_ids(workdir)[target], signal.SIGTERM)
    output, _ = first.communicate(timeout=200)
    assert first.returncode == 128 + signal.SIGTERM, output
    assert "[0] processes: 2 expected, 2 present; 8 device(s) (cpu)," in output
    (stopped,) = runs.steps_saved(workdir)
    assert 3 <= stopped < runs.STEPS
    assert f"[0] stopped: saved step {stopped}; the same command goes on" in output
    assert "[1] stopped" not in output
    assert list(runs.losses(workdir)) == list(range(1, stopped + 1))
    if target == 0:
        return  # one continuation is enough

    second = launch(4, workdir, "checkpoint.every=100", devices=2)
    output, _ = second.communicate(timeout=400)
    assert second.returncode == 0, output
    assert f"[0] {workdir}: resuming at step {stopped} (example {stopped * 64})" in output
    assert "[0] processes: 4 expected, 4 present; 8 device(s) (cpu)," in output
    found, expected = runs.losses(workdir), runs.losses(one)
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
    assert len(process_ids(workdir)) == 4
    mine, theirs = runs.saved_state(workdir), runs.saved_state(one)
    assert mine[1] == theirs[1]
    # Softmax does not see the bias of the keys: its gradient is rounding, which Adam blows up.
    seen = {name: x for name, x in theirs[0].items() if not name.endswith("key/bias")}
    assert 0 < len(theirs[0]) - len(seen) < 9
    for name, value in seen.items():
        np.testing.assert_allclose(mine[0][name], value, rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_one_that_is_killed_ends_the_others_for_a_restart(tmp_path):
    workdir = tmp_path / "run"
    processes = launch(2, workdir, devices=4, GRACE="180")
    runs.wait_for(
        lambda: (workdir / "metrics.jsonl").exists() and len(runs.lines(workdir)) >= 3, processes
    )
    victim = process_ids(workdir)[1]
    os.kill(victim, signal.SIGKILL)
    output, _ = processes.communicate(timeout=400)
    assert processes.returncode == 128 + signal.SIGKILL
    # The other process sees the broken connection, or is ended by jax when it misses the signs of
    # life: after 100 seconds at the most.
    ours = f"process 1 ({os.uname().nodename}:{victim}) is gone"
    assert ours in output or "tasks are unhealthy" in output
    assert ours not in output or "start all processes again" in output


def test_one_that_does_not_come_is_named(tmp_path, capsys):
    given = ("--coordinator-address=127.0.0.1:1", "--num-processes=2", "--process-id=1")
    assert runs.maskjax(*runs.command(tmp_path), *given, "--start-timeout=0.1") == 2
    assert "process 0 did not answer at 127.0.0.1:1 within 0 s" in capsys.readouterr().err
