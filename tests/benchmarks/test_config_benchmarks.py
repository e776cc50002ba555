"""Benchmarks over configs and sizes: which rows there are, and what is made of the figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskjax.config import config_folder

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The folder of the scripts on the path of this process."""
    monkeypatch.syspath_prepend(str(FOLDER))


def test_every_config_is_a_row():
    import methods

    rows = methods.entries()
    assert next(iter(rows)) == "mim/mae"
    for path in config_folder().glob("*/*.py"):
        if not path.stem.startswith("_"):
            assert f"{path.parent.name}/{path.stem}" in rows
    assert rows["mim/mae, all tokens"].overrides == (f"model.mask_ratio={1 / 196}",)


def test_a_config_is_brought_to_a_size_and_makes_steps():
    import config_step

    size = {"model.encoder.dim": 32, "model.decoder.depth": 1, "model.nothing.dim": 7}
    parts = config_step.experiment("mim/mae:tiny", ["model.mask_ratio=0.25"], 8, size)
    assert parts.config.model.encoder.dim == 32
    assert parts.config.model.mask_ratio == 0.25
    assert parts.mesh.size == 1
    batch = config_step.synthetic_batch(parts)
    assert batch["image"].shape == (8, 8, 8, 1) and batch["image"].dtype == np.uint8
    assert len(np.unique(batch["position"], axis=0)) == 8
    run = config_step.runner(parts)
    run(1)
    run(2)


def test_students_and_their_teachers_fit_each_other_at_that_size():
    import config_step
    import methods

    rows = methods.entries()
    for name in methods.TEACHERS:
        one = rows[name]
        parts = config_step.experiment(one.config, one.overrides, 8, one.size)
        assert parts.config.model.encoder.dim == 192 and parts.method.step_flops > 0


def test_ratios_to_the_first_row():
    import methods

    seconds = {"mim/mae": [1.0, 3.0, 2.0], "other": [4.0, 4.0, 4.0]}
    work = {name: {"formula": f, "counted": f} for name, f in (("mim/mae", 10.0), ("other", 40.0))}
    rows = methods.summary(seconds, work)
    assert rows["other"]["time_ratio"] == 2
    assert rows["other"]["flops_ratio"] == 4
    assert rows["mim/mae"]["time_ratio"] == 1


@pytest.mark.slow
def test_growth_at_three_points(monkeypatch, tmp_path):
    import growth

    small = {"model.encoder.dim": 32, "model.encoder.depth": 1, "model.encoder.heads": 1}
    small |= {"model.decoder.dim": 16, "model.decoder.depth": 1, "model.decoder.heads": 1}
    monkeypatch.setattr(growth, "BASE", small)
    monkeypatch.setattr(growth, "AXES", {"batch": (8, (2,)), "mask ratio": (0.75, (0.5,))})
    axes = growth.measured(rounds=1, steps=1)
    assert axes["batch"]["values"] == [2, 8]
    assert axes["mask ratio"]["values"] == [0.5, 0.75]
    assert axes["mask ratio"]["gflop"][0] > axes["mask ratio"]["gflop"][1]
    assert all(second > 0 for rows in axes.values() for second in rows["seconds"])
    devices = {name: [1.0, 4.0] for name in ("chips", "moved", "ideal", "peak", "state")}
    growth.plot(axes, devices, tmp_path / "folder" / "growth.png")
    growth.plot(axes, None, tmp_path / "without.png")
    assert (tmp_path / "folder" / "growth.png").stat().st_size > 10_000
    growth.show(axes, devices)


@pytest.mark.slow
def test_one_round_of_a_method(tmp_path):
    out = tmp_path / "methods.json"
    options = ("--only", "mim/mae", "--rounds", "1", "--steps", "1", "--batch", "2")
    command = [sys.executable, str(FOLDER / "methods.py"), *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads(out.read_text())["summary"]["mim/mae"]
    assert row["time_ratio"] == row["flops_ratio"] == 1
    assert row["counted"] == pytest.approx(row["formula"], rel=0.05)
