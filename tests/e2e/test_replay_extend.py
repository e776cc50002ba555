"""Steps done again are the same bits; a run goes on to another length only when it is asked to."""

import json

import pytest
import runs
from runs import maskjax

EVERY = ("checkpoint.every=6", "checkpoint.keep_last=9", "train.steps=12")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert runs.train(workdir, *EVERY) == 0
    return workdir


def test_replay_is_the_same_bit_for_bit_and_writes_nothing(trained, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    code = maskjax("replay", f"--workdir={trained}", "--steps=6")
    assert code == 0, capsys.readouterr()
    lines = capsys.readouterr().out.splitlines()
    expected = runs.losses(trained)
    for step, line in zip(range(7, 13), lines, strict=False):
        loss = expected[step]
        assert line == f"step {step}: {loss!r} then, {loss!r} now: same"
    assert lines[-2] == "state after step 12: same, bit for bit"
    assert lines[-1] == "6 losses from step 6 compared: the same, bit for bit"
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_difference_is_seen(trained, capsys):
    """As if the run had been made by another version of the code."""
    metrics, config = trained / "metrics.jsonl", trained / "config.json"
    kept = metrics.read_text(), config.read_text()
    first, last = kept[0].splitlines()[:-1], json.loads(kept[0].splitlines()[-1])
    last["loss"] += 1e-7
    try:
        metrics.write_text("\n".join([*first, json.dumps(last)]) + "\n")
        assert maskjax("replay", f"--workdir={trained}", "--steps=2", "--step=6") == 0
        assert maskjax("replay", f"--workdir={trained}", "--steps=6") == 1
        assert "now: DIFFERENT" in capsys.readouterr().out
        metrics.write_text(kept[0])
        changed = json.loads(kept[1]) | {"seed": 5}
        config.write_text(json.dumps(changed))
        assert maskjax("replay", f"--workdir={trained}", "--steps=6") == 1
        shown = capsys.readouterr().out
        assert "state after step 12: differs in " in shown
        assert "6 losses from step 6 compared: NOT the same" in shown
    finally:
        metrics.write_text(kept[0])
        config.write_text(kept[1])


def test_nothing_to_compare_with(trained, capsys):
    assert maskjax("replay", f"--workdir={trained}", "--steps=3", "--step=12") == 2
    assert "no step of 13 .. 15 is logged" in capsys.readouterr().err
    assert maskjax("replay", f"--workdir={trained}", "--steps=0") == 2


def test_another_length_needs_extend(trained, tmp_path, capsys):
    longer = ("checkpoint.every=6", "checkpoint.keep_last=9", "train.steps=15")
    assert runs.train(trained, *longer) == 2
    assert "train.steps: 12 -> 15" in capsys.readouterr().err
    first = runs.losses(trained)
    assert maskjax(*runs.command(trained, *longer), "--extend") == 0
    assert "resuming at step 12 (example 768)" in capsys.readouterr().out
    losses = runs.losses(trained)
    assert list(losses) == list(range(1, 16))
    assert first.items() <= losses.items()
    assert runs.lines(trained)[-1]["lr"] > 0  # of the schedule of 15 steps
    assert runs.train(trained, *longer) == 0  # it is a run of 15 steps now
    assert "already trained to step 15" in capsys.readouterr().out
