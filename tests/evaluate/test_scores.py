"""Score rows, tables and scores.json."""

import io
import json
import math

import pytest

from maskjax.errors import UserError
from maskjax.evaluate import scores
from maskjax.evaluate.scores import Score


def rows():
    return [
        Score("knn@20", 0.801, "k = 20", 7200, 1080, "mean", "checkpoint step 4000", step=4000),
        Score("knn@20", 0.673, "k = 20", 7200, 1080, "mean", "random init"),
        Score("knn@20", 0.48, "k = 20", 7200, 1080, "", "raw pixels"),
        Score("held_out_loss", 0.2231, "mse", 0, 1080, "", "random init", "loss"),
    ]


def test_a_score_is_a_number_with_a_key():
    score = rows()[0]
    assert float(score) == 0.801
    assert score.key == "knn@20/mean/checkpoint step 4000"
    assert rows()[2].key == "knn@20/raw pixels"
    assert [score.shown() for score in rows()] == ["80.1 %", "67.3 %", "48.0 %", "0.2231"]
    assert scores.weights_name(0) == "random init"
    assert scores.weights_name(7) == "checkpoint step 7"


def test_the_file_merges_by_key(tmp_path):
    assert scores.read_scores(tmp_path) == []
    scores.write_scores(tmp_path, rows()[:2])
    better = Score("knn@20", math.nan, "new", 1, 2, "mean", "random init")
    path = scores.write_scores(tmp_path, [better, rows()[3]])
    json.loads(path.read_text(), parse_constant=pytest.fail)
    found = {score.key: score for score in scores.read_scores(tmp_path)}
    assert len(found) == 3
    assert found[rows()[0].key] == rows()[0]
    assert math.isnan(found[better.key].value)
    assert found[better.key].protocol == "new"


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "scores.json").write_text('{"a": {"value": 1, "color": 2}}')
    with pytest.raises(UserError, match="does not hold scores"):
        scores.read_scores(tmp_path)


def test_the_table_puts_baselines_beside_the_score():
    head, body = scores.score_table(rows())
    assert head == [
        "score",
        "pool",
        "raw pixels",
        "random init",
        "checkpoint step 4000",
        "train / test",
    ]
    assert body == [
        ["knn@20", "mean", "48.0 %", "67.3 %", "80.1 %", "7,200 / 1,080"],
        ["held_out_loss", "", "", "0.2231", "", "0 / 1,080"],
    ]
    assert scores.score_table(rows()[2:3])[1] == [["knn@20", "", "48.0 %", "7,200 / 1,080"]]


def test_printing(monkeypatch):
    stream = io.StringIO()
    scores.print_scores(rows(), stream)
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == " ".join(scores.score_table(rows())[0]).split()
    assert lines[1].startswith("knn@20         mean  48.0 %")
    assert "knn@20: k = 20" in lines

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    scores.print_scores(rows(), stream)
    assert "67.3 %" in stream.getvalue()


def test_numbers_in_names_sort_as_numbers(tmp_path):
    names = ["knn@10", "knn@20", "knn@100", "linear_probe"]
    scores.write_scores(tmp_path, [Score(name, 0.5, "", 1, 1) for name in names[::-1]])
    assert [score.name for score in scores.read_scores(tmp_path)] == names
