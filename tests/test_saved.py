"""A finished run, opened for reading."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
import runs

from maskjax.errors import UserError
from maskjax.saved import open_run, random_weights, read_config
from maskjax.train.leaves import by_name


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    assert runs.train(folder, "checkpoint.every=12") == 0
    return folder


@pytest.fixture(scope="module")
def stored(workdir):
    return {step: runs.saved_state(workdir, step)[0] for step in (12, 24)}


def assert_are(params, stored, prefix):
    for name, leaf in by_name(params).items():
        assert np.array_equal(np.asarray(leaf), stored[f"{prefix}{name}"]), name


def test_the_weights_of_a_checkpoint(workdir, stored):
    for step in (None, 24, 12):
        run = open_run(workdir, step=step)
        assert run.step == (step or 24)
        assert run.weights == f"checkpoint step {run.step}"
        assert_are(run.params, stored[run.step], "params/")
        assert by_name(run.extra) == {}


def test_the_moving_average(workdir, stored):
    run = open_run(workdir, ema=True)
    assert run.weights == "checkpoint step 24 (moving average)"
    (prefix,) = {name.split("/ema/")[0] + "/ema/" for name in stored[24] if "/ema/" in name}
    assert_are(run.params, stored[24], prefix)


def test_a_run_from_another_mesh_opens_over_all_devices_here(workdir, tmp_path):
    """A pod's mesh does not fit this machine."""
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["mesh"] = {"replica": 4, "data": 16, "fsdp": 8, "tensor": 2}
    path.write_text(json.dumps(config))
    assert read_config(tmp_path / "run").mesh.data == 16
    run = open_run(tmp_path / "run")
    assert dict(run.parts.mesh.shape) == {"replica": 1, "data": 8, "fsdp": 1, "tensor": 1}
    assert set(run.predict) >= {"encode", "reconstruct"}


def test_random_weights_are_those_of_step_0(workdir):
    run = open_run(workdir)
    params, extra = random_weights(run)
    expected = run.parts.init()
    for name, leaf in by_name(params).items():
        assert np.array_equal(np.asarray(leaf), np.asarray(by_name(expected.params)[name])), name
    assert jax.tree.leaves(extra) == []
    kernel = "encoder/patch_embed/kernel"
    assert not np.array_equal(by_name(params)[kernel], by_name(run.params)[kernel])


def test_opening_says_nothing_and_writes_nothing(workdir, capsys, caplog):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with caplog.at_level(logging.WARNING):
        open_run(workdir)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    assert [r.getMessage() for r in caplog.records if r.name.startswith("maskjax")] == []


def test_a_run_of_epochs_opens_without_a_warning_about_its_length(workdir, tmp_path, caplog):
    """How long an epoch is does not matter here; the data may not even be on this machine."""
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["train"] = {**config["train"], "steps": 0, "epochs": 1.0}
    config["optim"]["warmup_steps"] = 5
    config["data"]["path"] = "folder:/not/on/this/machine"
    path.write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING):
        assert open_run(tmp_path / "run").step == 24
    assert [r.getMessage() for r in caplog.records if r.name.startswith("maskjax")] == []


def test_no_run(workdir, tmp_path):
    with pytest.raises(UserError, match=r"no run here \(.*config\.json is missing\)"):
        open_run(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint of step 13 \(steps found: 12, 24\)"):
        open_run(workdir, step=13)
    with pytest.raises(UserError, match=r"no checkpoint of step 0 "):
        open_run(workdir, step=0)
