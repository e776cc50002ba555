"""Atomic files, strict JSON, config files of a run."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskjax.errors import UserError
from maskjax.observe import files, run_files


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    path = files.write_atomic(tmp_path / "deep" / "a.txt", "old")
    files.write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = files.write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@given(st.floats(width=32))
def test_numbers_survive_strict_json(value):
    def refuse(text):
        raise AssertionError(text)

    text = json.dumps(files.encode({"x": np.float32(value)}), allow_nan=False)
    back = files.as_float(json.loads(text, parse_constant=refuse)["x"])
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_config_round_trip_and_differences(tmp_path):
    config = {"method": "m", "b": {"size": (2, 3), "lr": 1}, "a": None, "empty": {}}
    run_files.write_config(tmp_path, config, {"b.lr": 1})
    assert run_files.read_config(tmp_path) == {
        "a": None,
        "b": {"lr": 1, "size": [2, 3]},
        "empty": {},
        "method": "m",
    }
    text = (tmp_path / "config.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert run_files.differences(config, {**config, "b": {"size": [2, 3], "lr": 1.0}}) == {}
    run_files.check_same_config(tmp_path, config)


def test_another_config_is_refused_key_by_key(tmp_path):
    config = {"method": "m", "a": 1, "mesh": {"data": 1}, "b": {"c": "x"}}
    run_files.write_config(tmp_path, config, {})
    other = {"method": "m", "a": 2, "mesh": {"data": 8}, "b": {"c": "x", "d": 3}}
    with pytest.raises(UserError) as caught:
        run_files.check_same_config(tmp_path, other, ignore=("mesh",))
    message = str(caught.value)
    assert "a: 1 -> 2" in message
    assert "b.d: '(absent)' -> 3" in message
    assert "mesh" not in message
    run_files.check_same_config(tmp_path, other, ignore=("mesh", "a", "b.d"))
    run_files.check_same_config(tmp_path / "elsewhere", other)


def test_a_folder_without_or_with_a_broken_config(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json there"):
        run_files.read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        run_files.read_config(tmp_path)


def test_facts_are_merged(tmp_path):
    run_files.write_facts(tmp_path, {"device": "cpu", "jax": "0.1"})
    run_files.write_facts(tmp_path, {"jax": "0.2"})
    assert files.read_json(tmp_path / "run.json") == {"device": "cpu", "jax": "0.2"}
