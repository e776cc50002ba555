"""Damaged newest checkpoints are skipped by name; a save that fails says so and harms nothing."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from small_state import META, abstract, make, same, saved

from maskjax.errors import UserError
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.storage import StorageError

ROOT = Path(__file__).resolve().parents[2]


def test_the_newest_whole_one_is_used_and_the_others_are_set_aside(tmp_path, caplog):
    directory = saved(tmp_path, steps=(3, 4, 5, 6), keep_last=9)
    (directory / "6/meta/metadata").write_text("")
    (directory / "5/state/manifest.ocdbt").unlink()
    with Checkpoints(directory, every=1, keep_last=9) as checkpoints:
        state, position, _ = checkpoints.restore_newest(abstract())
        same(state, make())
        assert position == 4 * 64
        assert checkpoints.all_steps() == [3, 4]
        assert sorted(path.name for path in directory.glob("damaged-*")) == [
            "damaged-5",
            "damaged-6",
        ]
        for step in (5, 6):
            assert (
                f"checkpoint {step} was skipped and is now {directory}/damaged-{step}: "
                in caplog.text
            )
        for step in (5, 6):  # what was damaged is written anew
            assert checkpoints.save(step, make(step), position + step, META)
        same(checkpoints.restore_newest(abstract())[0], make(6))


def test_without_a_whole_one_nothing_is_touched(tmp_path):
    directory = saved(tmp_path, steps=(3, 4), keep_last=9)
    for step in (3, 4):
        (directory / f"{step}/meta/metadata").write_text("{")
    with Checkpoints(directory, every=1, keep_last=9) as checkpoints:
        with pytest.raises(UserError, match=f"{directory}/4: the checkpoint is damaged"):
            checkpoints.restore_newest(abstract())
        assert checkpoints.all_steps() == [3, 4]


def test_another_model_is_no_damage(tmp_path):
    directory = saved(tmp_path, steps=(3, 4), keep_last=9)
    target = {"other": jnp.zeros(3)}
    with Checkpoints(directory, every=1, keep_last=9) as checkpoints:
        with pytest.raises(UserError, match="does not fit this model"):
            checkpoints.restore_newest(target)
        assert checkpoints.all_steps() == [3, 4]


FULL = """
import resource, sys, jax.numpy as jnp
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.storage import StorageError

state = {"w": jnp.arange(2.0**20)}
try:
    with Checkpoints(sys.argv[1], every=1, keep_last=1) as checkpoints:
        checkpoints.save(1, state, 1, {})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
        checkpoints.save(2, state, 2, {})
        checkpoints.wait()
except StorageError as error:
    print(error.exit_code, error)
"""


def test_a_disk_that_is_full_keeps_the_last_good_one(tmp_path):
    """Files beyond 64 KiB cannot be written, as if the disk were full."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert f"1 {tmp_path}: a checkpoint could not be written: " in done.stdout, done.stderr
    assert "step 1 is whole and was kept; the same command goes on from there" in done.stdout
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == [1]
        checkpoints.restore({"w": jnp.zeros(2**20)})


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"could not be written.*no finished one is there"):
        Checkpoints(tmp_path / "file/checkpoints")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="the folder cannot be written: mount it writable"):
        Checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(28, "No space left on device"), "the disk or quota is full"),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device [write]"), "the disk or quota"),
        (OSError(30, "Read-only file system"), "the folder cannot be written"),
        (PermissionError(13, "Permission denied"), "the folder cannot be written"),
    ],
)
def test_what_to_do(error, advice):
    from maskjax.train.storage import writable

    with pytest.raises(StorageError, match=advice), writable("/runs/a", lambda: 7):
        raise error
