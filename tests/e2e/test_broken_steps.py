"""Runs whose loss is NaN at chosen steps."""

import numpy as np
import pytest
import runs

CONFIG = """
from maskjax.configs import common
from maskjax.configs.mim import mae

def get_config(arg=""):
    config = common.experiment("broken_mae")
    config.optim.update(mae.get_config("tiny").optim)
    mae.tiny(config)
    return config
"""


def train(tmp_path, *overrides):
    (tmp_path / "broken.py").write_text(CONFIG)
    config = f"--config={tmp_path / 'broken.py'}"
    return runs.train(tmp_path / "run", *overrides, config=config)


def finite(state):
    return all(np.isfinite(x).all() for x in state.values() if x.dtype.kind == "f")


def test_a_few_broken_steps_are_left_out(tmp_path, caplog):
    assert train(tmp_path, "model.broken=(3,4,10)", "checkpoint.every=5") == 0
    lines = {int(line["step"]): line for line in runs.read_metrics(tmp_path / "run/metrics.jsonl")}
    assert [step for step, line in lines.items() if "loss" not in line] == [4, 5, 11]
    assert lines[runs.STEPS]["guard/skipped"] == 3
    assert lines[runs.STEPS]["loss"] < lines[1]["loss"]
    assert "2 steps so far were left out" in caplog.text
    # Step 5 was left out: its checkpoint holds the parameters of step 3.
    for step in (5, 10, 15):
        if step in runs.steps_saved(tmp_path / "run"):
            assert finite(runs.saved_state(tmp_path / "run", step)[0])


@pytest.mark.slow
def test_too_many_in_a_row_end_the_run_with_the_last_good_state(tmp_path, capsys):
    broken = ",".join(map(str, range(6, 20)))
    options = (f"model.broken=({broken})", "train.max_skipped=4", "train.log_every=8")
    assert train(tmp_path, *options) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "step 7: not finite: the loss or all of the gradient" in message
    assert "the state of step 6 is kept, saved as step 16" in message
    state, position = runs.saved_state(tmp_path / "run")
    assert runs.steps_saved(tmp_path / "run") == [16]
    assert finite(state)
    assert state["guard/skipped"] == 10
    assert position == 16 * 64
    # Going on: patience is new, the broken steps 17 .. 20 use it up exactly once more.
    assert train(tmp_path, f"model.broken=({broken})", "train.max_skipped=5") == 0
    state, _ = runs.saved_state(tmp_path / "run")
    assert finite(state)
    assert state["guard/skipped"] == 14
