"""`maskjax data`: what is there, what is broken, what it looks like, how fast it is."""

import json

import numpy as np
import pytest
import runs
from PIL import Image

from maskjax.data.benchmark import Measured, recommend, settings


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train/ant/0", "train/ant/1", "train/bee/0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / f"{name}.jpg")
    return tmp_path


def data(*argv):
    return runs.maskjax("data", *argv)


def test_says_what_is_there(folder, capsys):
    assert data(f"--data=folder:{folder}") == 0
    shown = capsys.readouterr().out
    assert "3 examples, 2 classes: ant, bee" in shown
    assert "train/ant/0.jpg: JPEG RGB 30 x 40, label 0" in shown


def test_check_of_what_is_fine(folder, capsys):
    assert data(f"--data=folder:{folder}", "--check", "--workers=0") == 0
    assert "broken: 0" in capsys.readouterr().out


def test_check_of_what_is_broken(folder, tmp_path, capsys):
    (folder / "train/ant/1.jpg").write_bytes(b"nothing")
    (folder / "train/bee/1.jpg").write_bytes((folder / "train/bee/0.jpg").read_bytes())
    report = tmp_path / "report.json"
    assert data(f"--data=folder:{folder}", "--check", "--workers=0", f"--report={report}") == 1
    assert "train/ant/1.jpg" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert [entry["id"] for entry in found["broken"]] == ["train/ant/1.jpg"]
    assert found["duplicates"] == [["train/bee/0.jpg", "train/bee/1.jpg"]]
    assert found["split"] == "train"
    table = tmp_path / "table.csv"
    assert data(f"--data=folder:{folder}", "--check", "--workers=0", f"--report={table}") == 1
    assert len(table.read_text().splitlines()) == 5


def test_check_of_some_spreads_them(folder, capsys):
    assert data("--data=digits", "--check", "--workers=0", "--limit=50") == 0
    assert "50 examples" in capsys.readouterr().out


def test_show(folder, tmp_path):
    out = tmp_path / "sheet.png"
    config = (runs.TINY, f"--config.data.path=folder:{folder}", "--config.data.views=2")
    assert data(*config, f"--show={out}", "--count=3") == 0
    sheet = np.asarray(Image.open(out))
    assert sheet.ndim == 3
    assert sheet.std() > 20


@pytest.mark.parametrize("spec", ["stereo", "synthetic:8x8x4:10"])
def test_show_of_other_examples(spec, tmp_path):
    assert data(f"--data={spec}", f"--show={tmp_path / 'a.png'}", "--count=2", "--size=32") == 0


def test_show_of_a_skipped_example(folder, tmp_path):
    (folder / "train/ant/1.jpg").write_bytes(b"nothing")
    out = f"--show={tmp_path / 'a.png'}"
    assert data(runs.TINY, f"--config.data.path=folder:{folder}", out, "--count=3") == 0
    strict = "--config.data.on_error=error"
    assert data(runs.TINY, f"--config.data.path=folder:{folder}", out, "--count=3", strict) == 2


def test_benchmark(folder, capsys):
    argv = ("--benchmark", "--seconds=0.05", "--workers=0,1", "--need=1")
    assert data(runs.TINY, f"--config.data.path=folder:{folder}", *argv) == 0
    shown = capsys.readouterr().out
    for stage in ("read", "decode alone", "decode and augment", "batch", "host to device"):
        assert f"  {stage}" in shown
    assert "1 worker x " in shown
    assert "MB ahead" in shown
    assert "recommended: --config.data.workers=0" in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "name the data"),
        ((runs.TINY, "--data=digits"), "name the data"),
        (("--data=digits", "--config.seed=1"), "--config.key=value needs --config"),
        (("--data=digits", "--report=a.json"), "--report belongs to --check"),
        (("--data=digits", "--check", "--report=a.txt"), "must end in"),
        (("--data=digits", "--show=a.jpg"), "must end in"),
        (("--data=digits", "--check", "--workers=two"), "--workers=two"),
        (("--data=digits", "--check", "--limit=0"), "--limit=0: must be positive"),
        (("--data=nothing",), "unknown data source"),
    ],
)
def test_wrong_arguments(argv, message, capsys):
    assert data(*argv) == 2
    assert message in capsys.readouterr().err


def measured(workers, threads, rate):
    return Measured(workers, threads, rate, 1.0, 32, 100, ())


FOUND = [measured(0, 4, 900), measured(1, 4, 950), measured(2, 2, 1500), measured(4, 1, 1550)]


@pytest.mark.parametrize(("need", "workers"), [(100, 0), (860, 1), (1000, 2), (1400, 4), (None, 2)])
def test_the_fewest_workers_that_suffice_are_recommended(need, workers):
    (advice,) = recommend(FOUND, need, cores=4)
    assert f"--config.data.workers={workers} " in advice


def test_too_great_a_need_is_told_in_cores():
    text = "\n".join(recommend(FOUND, 3100, cores=4))
    assert "at most 1,550 images/s (4 workers x 1 thread) for a need of 3,100" in text
    assert "about 9 cores" in text


def test_settings_use_all_cores():
    assert settings(1) == [(0, 1), (1, 1)]
    assert settings(6) == [(0, 6), (1, 6), (2, 3), (4, 1), (6, 1)]
