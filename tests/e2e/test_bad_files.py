"""Training on folders with files of every broken kind, and with a file that vanishes meanwhile."""

import io
import shutil

import numpy as np
import pytest
import runs
from PIL import Image

from maskjax.data.order import training_order
from maskjax.data.source import resolve
from maskjax.observe.bad_examples import read_bad_examples
from maskjax.observe.files import read_json, write_json
from maskjax.session import Session


def encoded(kind="JPEG", mode="RGB", size=(12, 10), **options) -> bytes:
    """A picture of noise as a file."""
    width, height = size
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return saved(Image.frombytes(mode, size, pixels.tobytes()), kind, **options)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(exif=exif)


FINE = {
    "cmyk.jpg": encoded(mode="CMYK"),
    "grey.jpg": encoded(mode="L"),
    "deep.png": saved(Image.fromarray(np.full((10, 12), 40_000, np.uint16)), "PNG"),
    "alpha.png": encoded("PNG", "RGBA"),
    "turned.jpg": turned(),
    "webp.webp": encoded("WEBP"),
}
BROKEN = {
    "cut.jpg": encoded(size=(200, 200))[:4000],
    "cut.png": encoded("PNG", size=(200, 200))[:4000],
    "page.jpg": b"<html>404</html>",
    "empty.png": b"",
    "bomb.png": saved(Image.new("1", (60_000, 4_000)), "PNG"),
    "float.tif": saved(Image.fromarray(np.ones((10, 12), np.float32)), "TIFF"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train: 24 pictures, 6 odd ones that can be read, and 6 that cannot. Test: 6, and one."""
    root = tmp_path_factory.mktemp("set")
    fine = {f"{number:02d}.png": encoded("PNG") for number in range(24)} | FINE
    put(root / "train", fine | BROKEN)
    put(root / "test", FINE | {"page.jpg": BROKEN["page.jpg"]})
    return root


def put(split, files):
    for number, (name, content) in enumerate(sorted(files.items())):
        path = split / "ab"[number % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def train(workdir, folder, *overrides):
    options = (f"data.path=folder:{folder}", "data.bad_share=0.7", "checkpoint.every=12")
    return runs.train(workdir, *options, *overrides)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run that skipped what it could not use."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert train(workdir, folder) == 0
    return workdir


def test_every_broken_kind_is_skipped_and_listed(folder, whole):
    listed = read_bad_examples(whole / "bad_examples.jsonl")
    assert {entry["id"].rpartition("/")[2] for entry in listed} == set(BROKEN)
    assert all(entry["id"] in entry["reason"] for entry in listed)


def test_what_is_skipped_is_counted(folder, whole):
    source, done, counts = resolve(f"folder:{folder}", "train"), 0, []
    broken = [name.rpartition("/")[2] in BROKEN for name in source.ids()]
    order = training_order(source, 0)
    for position in range(runs.STEPS * 64):
        number = order[position]
        while broken[number]:
            done, number = done + 1, (number + 1) % len(source)
        if position % 64 == 63:
            counts.append(done)
    assert [line["data/skipped"] for line in runs.lines(whole)] == counts
    assert all(0 <= line["data/wait"] <= 1 for line in runs.lines(whole))


def test_error_ends_the_run_with_the_name_of_the_file(folder, tmp_path, capsys):
    assert train(tmp_path / "run", folder, "data.on_error=error") == 2
    message = capsys.readouterr().err
    assert any(name in message for name in BROKEN)


def test_counts_and_list_go_on_after_a_resume(folder, whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints/24")
    assert train(workdir, folder, "data.workers=1") == 0
    assert runs.exact(workdir) == runs.exact(whole)
    assert (workdir / "bad_examples.jsonl").read_text() == (
        whole / "bad_examples.jsonl"
    ).read_text()
    skipped = int(runs.lines(whole)[-1]["data/skipped"])
    assert f"{skipped} times an example could not be used" in capsys.readouterr().out


def after_the_first_log(monkeypatch, act):
    """Does something as soon as the source has been listed and the first steps are done."""
    log = Session._log

    def acting(self, done, metrics):
        act()
        log(self, done, metrics)

    monkeypatch.setattr(Session, "_log", acting)


def test_a_file_that_vanishes_is_skipped_from_then_on(folder, tmp_path, monkeypatch):
    copy = tmp_path / "set"
    shutil.copytree(folder, copy)
    victim = copy / "train/a/00.png"
    assert victim.exists()
    after_the_first_log(monkeypatch, lambda: victim.unlink(missing_ok=True))
    assert train(tmp_path / "run", copy) == 0
    listed = read_bad_examples(tmp_path / "run/bad_examples.jsonl")
    (entry,) = [entry for entry in listed if entry["id"] == "train/a/00.png"]
    assert "train/a/00.png" in entry["reason"]


def test_a_data_set_that_vanishes_ends_the_run(folder, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "set"
    shutil.copytree(folder, copy)
    after_the_first_log(monkeypatch, lambda: shutil.rmtree(copy, ignore_errors=True))
    assert train(tmp_path / "run", copy) == 2
    assert "in a row cannot be used" in capsys.readouterr().err


def test_evaluation_is_strict_unless_told(whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    evaluate = ("evaluate", f"--workdir={workdir}", "--evaluators=knn")
    assert runs.maskjax(*evaluate) == 2
    assert "page.jpg" in capsys.readouterr().err
    config = read_json(workdir / "config.json")
    config["evaluate"]["on_error"] = "skip"
    write_json(workdir / "config.json", config)
    # knn reads the training images too: those that training skips are no error.
    assert runs.maskjax(*evaluate) == 0
