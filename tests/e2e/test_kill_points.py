"""Two processes, one killed at five points: what was saved is there, the rest is done again."""

import re
import signal

import hosts
import pytest
import runs
from kill_points import POINTS

SCRIPT = runs.ROOT / "tests/e2e/kill_points.py"
OPTIONS = ("checkpoint.every=4", "checkpoint.keep_last=2", "model.encoder.depth=1")
PATIENCE = ("--start-timeout=100", "--heartbeat-timeout=20")
# point, step of it, process, newest finished save afterwards. Steps of "step" count from the start.
KILLS = (
    ("before-write", 4, 1, 0),
    ("after-write", 8, 0, 4),
    ("before-commit", 8, 0, 4),
    ("after-commit", 8, 0, 8),
    ("step", 3, 1, 8),
)


def run(workdir, *module):
    """(exit codes, output) of two processes; again if they give up, as gloo does on a busy machine.

    It waits for 30 s for a process that is still compiling, and no flag changes that.
    """
    for _ in range(4):
        with hosts.start(
            2, workdir, *OPTIONS, devices=1, module=module or ("-m", "maskjax"), flags=PATIENCE
        ) as processes:
            codes, output = processes.wait(400), processes.output()
        if -signal.SIGKILL in codes or "Gloo context initialization failed" not in output:
            break
    return codes, output


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Everything that is compiled is kept, so that a start is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.mark.slow
def test_killed_at_five_points(cache, tmp_path):
    assert {kill[0] for kill in KILLS} == set(POINTS)
    codes, output = run(tmp_path / "whole")
    assert codes == (0, 0), output

    workdir, newest = tmp_path / "run", 0
    for point, step, victim, saved in KILLS:
        codes, output = run(workdir, SCRIPT, point, str(step), str(victim))
        assert codes[victim] == -signal.SIGKILL, (point, output)
        assert codes[1 - victim] not in (0, 2), (point, output)
        assert resumed_at(output) == newest, (point, output)
        newest = max(runs.steps_saved(workdir), default=0)
        assert newest == saved, (point, output)

    codes, output = run(workdir)
    assert codes == (0, 0), output
    assert resumed_at(output) == newest
    assert runs.exact(workdir) == runs.exact(tmp_path / "whole")
    (found, position), (expected, end) = (
        runs.saved_state(folder) for folder in (workdir, tmp_path / "whole")
    )
    assert position == end
    runs.assert_same_bits(found, expected)
    assert [p.name for p in (workdir / "checkpoints").iterdir() if "tmp" in p.name] == []


def resumed_at(output: str) -> int:
    found = re.search(r"resuming at step (\d+)", output)
    return int(found[1]) if found else 0
