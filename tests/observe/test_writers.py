"""metrics.jsonl, TensorBoard, pictures; what a resume drops."""

import json
import math
import sys

import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.observe import metrics_file, writers


def write(workdir, steps, **options):
    writer = writers.JsonlWriter(workdir, **options)
    for step in steps:
        writer.scalars(step, {"loss": 1.0 / step})
    return writer


def steps_of(workdir):
    return [line["step"] for line in metrics_file.read_metrics(workdir / "metrics.jsonl")]


def test_lines_are_readable_while_the_run_goes_on(tmp_path):
    writer = write(tmp_path, [1, 2], clock=lambda: 5.0)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first == {"step": 1, "time": 5.0, "loss": 1.0}
    writer.close()


def test_non_finite_numbers_are_strings_and_come_back(tmp_path):
    writer = writers.JsonlWriter(tmp_path)
    writer.scalars(1, {"a": np.float32("nan"), "b": np.inf, "c": -np.inf, "d": np.array(2)})
    writer.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"a": "nan", "b": "inf", "c": "-inf", "d": 2.0' in text
    (line,) = metrics_file.read_metrics(tmp_path / "metrics.jsonl")
    assert math.isnan(line["a"])
    assert (line["b"], line["c"], line["d"]) == (math.inf, -math.inf, 2.0)
    assert metrics_file.column([line], "a") == ([], [])
    assert metrics_file.column([line], "d") == ([1], [2.0])


def test_a_resume_drops_later_steps_and_keeps_the_rest(tmp_path):
    write(tmp_path, [10, 20, 30]).close()
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()
    write(tmp_path, [30, 40], restored_step=20).close()
    assert steps_of(tmp_path) == [10, 20, 30, 40]
    assert (tmp_path / "metrics.jsonl").read_text().splitlines()[:2] == before[:2]
    write(tmp_path, [50]).close()
    assert steps_of(tmp_path) == [10, 20, 30, 40, 50]
    write(tmp_path, [10], restored_step=0).close()
    assert steps_of(tmp_path) == [10]


def test_half_a_line_of_a_killed_run_does_no_harm(tmp_path):
    write(tmp_path, [10, 20]).close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')
    assert steps_of(tmp_path) == [10, 20]
    write(tmp_path, [30], restored_step=20).close()
    assert steps_of(tmp_path) == [10, 20, 30]
    assert metrics_file.read_metrics(tmp_path / "missing.jsonl") == []


def test_all_writers_together(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    with writers.open_writers(tmp_path, restored_step=0) as writer:
        writer.scalars(3, {"loss": 0.5})
        writer.image(3, "a picture/../x", picture)
    assert steps_of(tmp_path) == [3]
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["a_picture_.._x.png"]
    (events,) = (tmp_path / "tb").iterdir()
    assert b"loss" in events.read_bytes()


def test_only_the_first_process_writes(tmp_path):
    with writers.open_writers(tmp_path, enabled=False) as writer:
        writer.scalars(3, {"loss": 0.5})
        writer.image(3, "x", None)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_can_be_left_out_and_says_so_if_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    writers.open_writers(tmp_path, tensorboard=False).close()
    with pytest.raises(UserError, match="tensorboardX"):
        writers.open_writers(tmp_path)
