"""What a run computes does not depend on devices, micro-batches, data workers, or where it resumes.

The reference is an uninterrupted run on one device in a process of its own; here there are eight.
"""

import shutil

import numpy as np
import pytest
import runs

EVERY = ("checkpoint.every=8", "checkpoint.keep_last=9")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one_device") / "run"
    process = runs.start(workdir, *EVERY, devices=1)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert "1 device(s)" in output
    assert runs.steps_saved(workdir) == [8, 16, 24]
    return workdir


def until(run, copy, step: int):
    """A copy of a run as it was when it had saved this step, with the metrics of later steps."""
    shutil.copytree(run, copy)
    for later in runs.steps_saved(copy):
        if later > step:
            shutil.rmtree(copy / "checkpoints" / str(later))
    return copy


def assert_same_curve(workdir, reference):
    """The same examples and masks in every step: rounding apart, the losses are equal."""
    found, expected = runs.losses(workdir), runs.losses(reference)
    assert list(found) == list(expected) == list(range(1, runs.STEPS + 1))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
    assert len(set(expected.values())) == runs.STEPS


def test_resumed_on_eight_devices(reference, tmp_path, capsys):
    workdir = until(reference, tmp_path / "run", 8)
    assert runs.train(workdir, *EVERY) == 0
    output = capsys.readouterr().out
    assert "resuming at step 8 (example 512)" in output
    assert "8 device(s)" in output
    assert_same_curve(workdir, reference)
    assert runs.saved_state(workdir)[1] == runs.STEPS * 64


@pytest.mark.slow
def test_resumed_twice_with_other_meshes_workers_and_micro_batches(reference, tmp_path, capsys):
    """1 device -> data 4 x fsdp 2 -> data 2 x fsdp 2 x tensor 2; 0 -> 1 -> 2 data workers."""
    first = until(reference, tmp_path / "first", 8)
    options = ("mesh.data=4", "mesh.fsdp=2", "data.workers=1", "train.accumulate=2")
    assert runs.train(first, *EVERY, *options) == 0
    assert_same_curve(first, reference)

    second = until(first, tmp_path / "second", 16)
    options = ("mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2", "data.workers=2")
    assert runs.train(second, *EVERY, *options) == 0
    assert "mesh replica 1 x data 2 x fsdp 2 x tensor 2" in capsys.readouterr().out
    assert_same_curve(second, reference)


@pytest.mark.slow
def test_started_with_workers_and_micro_batches(reference, tmp_path):
    assert runs.train(tmp_path / "run", "data.workers=1", "train.accumulate=4") == 0
    assert_same_curve(tmp_path / "run", reference)
