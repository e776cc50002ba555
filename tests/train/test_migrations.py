"""Old checkpoint formats are readable, newer ones say so."""

import json
from pathlib import Path

import pytest
from small_state import abstract, make, same, saved

from maskjax.errors import UserError
from maskjax.train import migrations
from maskjax.train.checkpoint import Checkpoints
from maskjax.train.migrations import FORMAT_VERSION, rename_leaves


def rewrite(path: Path, change) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def as_version_0(directory: Path) -> None:
    """Turn a checkpoint into what was written before the format had a number."""
    rewrite(directory / "data" / "metadata", lambda d: {"next_index": d["position"]})
    rewrite(
        directory / "meta" / "metadata",
        lambda m: {k: v for k, v in m.items() if k != "format_version"},
    )


def test_version_0_is_migrated(tmp_path):
    state = make()
    directory = saved(tmp_path, state)
    as_version_0(directory / "3")
    with Checkpoints(directory, read_only=True) as checkpoints:
        restored, position, meta = checkpoints.restore(abstract())
    same(restored, state)
    assert position == 64 * 3 and meta["format_version"] == FORMAT_VERSION


def test_migrations_run_in_order_and_may_rename_leaves(tmp_path, monkeypatch):
    state = make()
    directory = saved(tmp_path, state)
    as_version_0(directory / "3")
    order = []

    def first(stored):
        order.append(1)
        return rename_leaves(stored, r"\bcls_token$", "token")

    def second(stored):
        order.append(2)
        return rename_leaves(stored, r"\btoken$", "class_token")

    monkeypatch.setattr(migrations, "FORMAT_VERSION", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 1: first, 2: second})
    encoder = dict(abstract().params["encoder"])
    encoder["class_token"] = encoder.pop("cls_token")
    with Checkpoints(directory, read_only=True) as checkpoints:
        params, _, meta = checkpoints.restore_params(3, {"encoder": encoder})
    assert order == [1, 2] and meta["format_version"] == 3
    same(params["encoder"]["class_token"], state.params["encoder"]["cls_token"])


def test_there_is_a_migration_from_every_version():
    assert sorted(migrations.MIGRATIONS) == list(range(FORMAT_VERSION))


def test_renaming_two_leaves_to_one_is_a_bug():
    stored = migrations.Stored({}, {}, {"a": None, "b": None})
    with pytest.raises(ValueError, match="one name"):
        rename_leaves(stored, "a|b", "c")


def test_a_newer_format_says_so(tmp_path):
    directory = saved(tmp_path)
    newer = {"format_version": FORMAT_VERSION + 1, "versions": {"maskjax": "9.9"}}
    rewrite(directory / "3" / "meta" / "metadata", lambda m: {**m, **newer})
    with (
        Checkpoints(directory, read_only=True) as checkpoints,
        pytest.raises(UserError, match=rf"format {FORMAT_VERSION + 1} is newer.*9\.9"),
    ):
        checkpoints.restore(abstract())
