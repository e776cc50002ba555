"""`maskjax explain` on a run: pictures and tables, and what it refuses."""

import csv

import numpy as np
import pytest
import runs
from PIL import Image

from maskjax.config import config_folder

CONFIG = f"--config={config_folder() / 'explain/layer_masking'}.py:tiny"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain") / "run"
    assert runs.train(folder, config=CONFIG) == 0
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "digit.png"
    rows, columns = np.mgrid[:16, :16]
    ring = np.abs(np.hypot(rows - 7.5, columns - 7.5) - 5) < 1.5
    Image.fromarray((ring * 255).astype(np.uint8)).save(path)
    return path


def test_lime_draws_and_lists_all_ways_of_hiding(workdir, photo, tmp_path, capsys):
    out = tmp_path / "lime.png"
    options = ("--segments=grid", "--cells=9", "--samples=40")
    command = ("explain", f"--workdir={workdir}", f"--image={photo}", f"--out={out}", *options)
    assert runs.maskjax(*command, "--masking=layer,grey,black,blur") == 0
    assert "9 segments, 40 samples" in capsys.readouterr().out
    assert np.asarray(Image.open(out)).shape[2] == 3
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert len(rows) == 9 and sum(int(row["pixels"]) for row in rows) == 64
    for name in ("layer", "grey", "black", "blur"):
        assert any(float(row[name]) for row in rows)


@pytest.mark.parametrize("method", ["removal", "shape", "scores", "linearity"])
def test_tests_write_a_table(method, workdir, tmp_path):
    out = tmp_path / "table.csv"
    options = (f"--method={method}", "--masking=layer,grey", "--images=20", "--cells=4")
    assert runs.maskjax("explain", f"--workdir={workdir}", f"--out={out}", *options) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["masking"] for row in rows} == {"layer", "grey"}


@pytest.mark.parametrize(
    "options, message",
    [
        (("--out=a.png",), "needs --image=FILE"),
        (("--out=a.png", "--image=no.jpg"), "no such file: no.jpg"),
        (("--out=a.jpg",), "must end in .png"),
        (("--method=shape", "--out=a.csv", "--images=1"), "--images must be 2 or more"),
        (("--method=shape", "--out=a.csv", "--masking=drop"), "masking 'drop': this run's network"),
    ],
)
def test_refusals(options, message, workdir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.maskjax("explain", f"--workdir={workdir}", *options) == 2
    assert message in capsys.readouterr().err
