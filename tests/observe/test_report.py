"""report.html: valid, self-contained, complete, and never in the way of a run."""

import html.parser
import json

import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.observe import pictures, report, report_scores, run_files
from maskjax.observe.writers import JsonlWriter

VOID = {"meta", "img", "br", "hr", "line", "circle", "polyline", "link", "input"}
EVIL = '<script>alert("x")</script>&'


class Checker(html.parser.HTMLParser):
    """Collects tags, text and references; every tag must be closed by its own kind."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.references, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check(path):
    checker = Checker()
    text = path.read_text()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert all(reference.startswith("data:image/png;base64,") for reference in checker.references)
    assert not {"script", "link", "iframe", "object"} & set(checker.tags)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    return checker, " ".join(checker.text)


def score(name, value, weights, **more):
    row = {"name": name, "value": value, "weights": weights, "pool": "mean", "kind": "accuracy"}
    return {**row, "protocol": "P", "train_count": 7200, "test_count": 1080, "step": 0, **more}


def fill(workdir):
    config = {"method": "mim.mae", "model": {"mask_ratio": 0.75}, "note": EVIL}
    config["data"] = {"path": "photo_crops", "global_batch": 64}
    run_files.write_config(workdir, config, {"model.mask_ratio": EVIL})
    run_files.write_facts(workdir, {"device": EVIL})
    clock = iter(range(1000, 10**6, 5))
    writer = JsonlWriter(workdir, clock=lambda: next(clock))
    for step in range(50, 1001, 50):
        writer.scalars(step, {"loss": 1 / step, "lr": 1e-3, "grad_norm": float("nan")})
    writer.close()
    rows = [
        score("knn@20", 0.48, "raw pixels", pool=""),
        score("knn@20", 0.673, "random init"),
        score("knn@20", 0.75, "checkpoint step 500", step=500),
        score("knn@20", 0.801, "checkpoint step 1000", step=1000, protocol=EVIL),
        score("linear_probe", 0.843, "checkpoint step 1000", step=1000),
        score("effective_rank", "nan", "checkpoint step 1000", step=1000, kind="number"),
    ]
    text = json.dumps({str(i): row for i, row in enumerate(rows)} | {"odd": 3, "half": {"name": 1}})
    (workdir / "scores.json").write_text(text)
    picture = np.zeros((10, 20, 3), np.uint8)
    pictures.save_png(workdir / "pictures" / "reconstruction.png", picture)
    pictures.save_png(workdir / "pictures" / "mask_coverage.png", picture)


def test_a_full_report(tmp_path):
    fill(tmp_path)
    path = report.write_report(tmp_path)
    assert path == tmp_path / "report.html"
    checker, text = check(path)
    for expected in (
        "mim.mae",
        "trained on photo_crops",
        "1,000 steps",
        "64,000 images seen",
        "about 1 min 35 s",
        "80.1 %",
        "67.3 %",
        "48.0 %",
        "84.3 %",
        "7,200 train and 1,080 test images",
        "checkpoint step 1000",
        "learning rate",
        "Mask coverage",
        "changed on the command line",
        EVIL,
    ):
        assert expected in text, expected
    assert checker.tags.count("img") == 2
    assert checker.tags.count("svg") == 2
    assert "details" in checker.tags


def test_an_empty_folder_gives_sentences(tmp_path):
    _, text = check(report.write_report(tmp_path))
    for expected in ("No scores yet", "No loss has been logged", "no pictures yet", "is missing"):
        assert expected in text


@pytest.mark.parametrize("name", ["config.json", "scores.json", "metrics.jsonl", "run.json"])
@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": {"b": []}}', "null\n7\n\xff"])
def test_broken_files_never_break_the_report(tmp_path, name, content):
    fill(tmp_path)
    (tmp_path / name).write_text(content, encoding="latin-1")
    check(report.write_report(tmp_path))


@pytest.mark.parametrize("value", [None, 3, [], {"global_batch": "x", "path": None}])
def test_odd_configs(tmp_path, value):
    fill(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"data": value, "model": value}))
    check(report.write_report(tmp_path))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        report.write_report(tmp_path / "missing")


def test_comparisons_take_the_latest_checkpoint_and_share_raw_pixels(tmp_path):
    fill(tmp_path)
    rows = report_scores.read_rows(json.loads((tmp_path / "scores.json").read_text()))
    knn = next(c for c in report_scores.comparisons(rows) if c.name == "knn@20")
    assert [row.value for row in knn.rows] == [0.48, 0.673, 0.801]
    alone = report_scores.comparisons(rows[:1])
    assert [c.raw.value for c in alone] == [0.48]


def test_pauses_are_left_out_of_the_time():
    lines = [{"step": i, "time": 10.0 * i + (1e6 if i > 5 else 0)} for i in range(11)]
    assert report.training_seconds(lines) == 90.0
    assert report.training_seconds(lines[:1]) == 0.0
