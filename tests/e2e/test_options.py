"""Options that show only in a whole run: what is kept, where it starts, when it gives up."""

import numpy as np
import pytest
import runs
from runs import maskjax

from maskjax.observe.metrics_file import read_metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("first") / "run"
    assert runs.train(workdir) == 0
    return workdir


@pytest.fixture
def weights(trained, tmp_path):
    """Its exported weights."""
    out = tmp_path / "weights.safetensors"
    assert maskjax("export", f"--workdir={trained}", "--format=mae", f"--out={out}") == 0
    return out


def test_init_from_starts_with_those_weights(trained, weights, tmp_path, capsys):
    options = (f"init_from={weights}", "checkpoint.every=12")
    assert runs.train(tmp_path / "run", *options) == 0
    again, first = runs.losses(tmp_path / "run"), runs.losses(trained)
    # Step 1 has learning rate 0, and the examples and masks of step 1 of the first run.
    assert again[1] == pytest.approx(first[runs.STEPS], abs=0.1 * first[1])
    assert again[1] < 0.6 * first[1]

    whole = runs.exact(tmp_path / "run")
    weights.rename(tmp_path / "gone")
    (tmp_path / "run" / "checkpoints" / "24").rename(tmp_path / "24")
    capsys.readouterr()
    assert runs.train(tmp_path / "run", *options) == 0
    assert "resuming at step 12" in capsys.readouterr().out
    assert runs.exact(tmp_path / "run") == whole


def test_what_is_kept(tmp_path):
    """The last, every twelfth, and the best by the loss of its step, also if that is not logged."""
    options = (
        "checkpoint.every=4",
        "checkpoint.keep_last=1",
        "checkpoint.keep_every=12",
        "checkpoint.keep_best=('loss','max')",
        "train.log_every=100",
    )
    assert runs.train(tmp_path, *options) == 0
    assert runs.steps_saved(tmp_path) == [4, 12, 24]
    assert list(runs.losses(tmp_path)) == [1, 24]


def test_the_best_is_kept_by_a_score(tmp_path, caplog):
    """Scores count for the step they are of, and not for later ones."""
    options = (
        "evaluate.during=('held_out','reconstruction')",
        "evaluate.every=6",
        "checkpoint.every=3",
        "checkpoint.keep_last=1",
        "checkpoint.keep_best=('evaluate/held_out_loss','max')",
    )
    assert runs.train(tmp_path, *options) == 0
    lines = read_metrics(tmp_path / "metrics.jsonl")
    key = "evaluate/held_out_loss"
    scores = {int(line["step"]): line[key] for line in lines if key in line}
    assert list(scores) == [6, 12, 18, 24]
    best = max(scores, key=scores.get)
    assert best == 6  # the loss falls
    assert runs.steps_saved(tmp_path) == [6, 24]
    assert list(runs.losses(tmp_path)) == list(range(1, runs.STEPS + 1))
    assert {path.name for path in (tmp_path / "pictures").iterdir()} >= {"reconstruction.png"}


@pytest.mark.slow
def test_lars_with_layer_decay(tmp_path, capsys):
    options = ("optim.name=lars", "optim.layer_decay=0.5", "optim.lr=0.1", "optim.ema=0.0")
    assert runs.train(tmp_path, *options) == 0
    losses = runs.losses(tmp_path)
    assert losses[runs.STEPS] < 0.9 * losses[1]
    table = (tmp_path / "parameters.txt").read_text()
    assert "0.125" in table  # the patch embedding, three layers below the head
    assert maskjax("evaluate", f"--workdir={tmp_path}", "--ema", "--evaluators=held_out") == 2
    assert "no moving average" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_with_good_checkpoints(tmp_path, capsys):
    """Saved at every step, logged at few: nothing that is broken may be saved in between."""
    options = ("optim.lr=1e9", "optim.warmup_steps=23", "checkpoint.every=1", "optim.name=sgd")
    options += ("train.log_every=7", "train.max_skipped=0")
    assert runs.train(tmp_path, *options) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("maskjax train: step ")
    assert "not finite: " in message
    steps = runs.steps_saved(tmp_path)
    assert steps
    broken = int(message.split()[3].rstrip(":"))
    assert max(steps) < broken
    assert all(np.isfinite(line["loss"]) for line in runs.lines(tmp_path))
    for step in steps:
        state, _ = runs.saved_state(tmp_path, step)
        assert all(np.isfinite(x).all() for x in state.values() if x.dtype.kind == "f"), step
