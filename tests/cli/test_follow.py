"""`maskjax evaluate --follow`: each checkpoint once, as it appears, to the last step."""

import shutil
import threading
import time

import pytest
from runs import maskjax, steps_saved

from maskjax.evaluate.scores import read_scores

FOLLOW = ("--follow", "--poll=0.05", "--evaluators=rank")


@pytest.fixture
def growing(trained, tmp_path):
    """A copy of the run that has only its first checkpoint yet, and what adds the second."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "scores.json").unlink(missing_ok=True)
    last = run / "checkpoints" / "24"
    shutil.move(last, tmp_path / "later")

    def finish():
        while not read_scores(run):
            time.sleep(0.02)
        shutil.move(tmp_path / "later", last)

    return run, finish


def test_checkpoints_are_scored_as_they_appear(growing, capsys):
    run, finish = growing
    training = threading.Thread(target=finish)
    training.start()
    assert maskjax("evaluate", f"--workdir={run}", *FOLLOW) == 0
    training.join()
    scores = read_scores(run)
    assert {score.step for score in scores} == {0, 12, 24}
    # The baseline is measured once.
    assert capsys.readouterr().out.count("effective_rank, random init:") == 1
    assert (run / "report.html").is_file()
    assert maskjax("evaluate", f"--workdir={run}", *FOLLOW) == 0  # nothing is left to do
    assert capsys.readouterr().out == ""


def test_a_checkpoint_that_is_gone_is_passed_over(trained, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "scores.json").unlink(missing_ok=True)
    from maskjax import saved

    opened = saved.open_run

    def deleted_first(workdir, *, step=None, ema=False):
        if step == 12:
            shutil.rmtree(run / "checkpoints" / "12")
        return opened(workdir, step=step, ema=ema)

    monkeypatch.setattr(saved, "open_run", deleted_first)
    assert maskjax("evaluate", f"--workdir={run}", *FOLLOW) == 0
    assert "step 12 was deleted before it could be scored" in capsys.readouterr().out
    assert steps_saved(run) == [24]
    assert {score.step for score in read_scores(run)} == {0, 24}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--step=3"], "it takes every step"),
        (["--poll=0"], "must be above 0 seconds"),
        (["--workdir=/nowhere"], "not the folder of a run"),
    ],
)
def test_wrong_arguments(argv, message, trained, capsys):
    assert maskjax("evaluate", f"--workdir={trained}", "--follow", *argv) == 2
    assert message in capsys.readouterr().err
