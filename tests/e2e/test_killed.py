"""A run that is killed loses the steps since its last finished checkpoint, and nothing else."""

import os
import shutil
import signal

import pytest
import runs

EVERY = ("checkpoint.every=3", "checkpoint.keep_last=9")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert runs.train(workdir, *EVERY) == 0
    return workdir


def training(workdir) -> bool:
    """Between two saves, a few steps after the first."""
    saved = runs.steps_saved(workdir) if (workdir / "checkpoints").is_dir() else []
    return bool(saved) and len(runs.lines(workdir)) >= 8


def saving(workdir) -> bool:
    """A save has begun and is not finished, and there is one before it."""
    if not (workdir / "checkpoints").is_dir() or not runs.steps_saved(workdir):
        return False
    return any("tmp" in path.name for path in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("moment", [training, saving])
def test_killed(whole, tmp_path, capsys, moment):
    workdir = tmp_path / "run"
    process = runs.start(workdir, *EVERY)
    runs.wait_for(lambda: moment(workdir), process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    saved, logged = runs.steps_saved(workdir), len(runs.lines(workdir))
    assert logged < runs.STEPS, "killed too late for this test to say anything"
    expected, end = runs.saved_state(whole)
    for step in saved:  # what is there is whole
        runs.assert_same_bits(runs.saved_state(workdir, step)[0], runs.saved_state(whole, step)[0])

    assert runs.train(workdir, *EVERY) == 0
    output = capsys.readouterr().out
    assert f"resuming at step {max(saved)} " in output
    # Saves run beside the next steps, and the loop waits for one before it begins another.
    assert logged - max(saved) <= 2 * 3
    assert list(runs.losses(workdir)) == list(range(1, runs.STEPS + 1))
    assert runs.exact(workdir) == runs.exact(whole)
    found, position = runs.saved_state(workdir)
    assert position == end
    runs.assert_same_bits(found, expected)
    leftovers = [p.name for p in (workdir / "checkpoints").iterdir() if not p.name.isdigit()]
    assert leftovers == []


def test_killed_in_its_first_save(whole, tmp_path, capsys):
    """Nothing is finished: the run begins again, and drops the lines of the steps it repeats."""
    shutil.copytree(whole, tmp_path / "run")
    steps = runs.steps_saved(tmp_path / "run")
    for step in steps[1:]:
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    (unfinished,) = (tmp_path / "run" / "checkpoints").iterdir()
    (unfinished / "commit_success.txt").unlink(missing_ok=True)
    unfinished.rename(unfinished.with_name(f"{steps[0]}.orbax-checkpoint-tmp-1"))
    assert runs.train(tmp_path / "run", *EVERY) == 0
    assert "resuming" not in capsys.readouterr().out
    assert runs.exact(tmp_path / "run") == runs.exact(whole)
    runs.assert_same_bits(runs.saved_state(tmp_path / "run")[0], runs.saved_state(whole)[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_workers_as_well(tmp_path, number):
    """As a terminal and schedulers send it; the loop waits for data most of the time."""
    options = ("data.path=synthetic:512x512x1:5000:10", "data.workers=1")
    process = runs.start(tmp_path / "run", *options, devices=1, start_new_session=True)
    runs.wait_for(lambda: len(runs.lines(tmp_path / "run")) >= 2, process)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    (saved,) = runs.steps_saved(tmp_path / "run")
    assert f"stopped: saved step {saved}; the same command goes on from there" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed(tmp_path):
    process = runs.start(tmp_path / "run", "data.workers=1", devices=1, start_new_session=True)
    runs.wait_for(lambda: len(runs.lines(tmp_path / "run")) >= 2, process)
    process.kill()
    process.wait()
    process.stdout.close()

    def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    runs.wait_for(gone, seconds=30)
