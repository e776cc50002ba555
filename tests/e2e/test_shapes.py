"""Images and patches that are not square, through the whole chain."""

import json

import numpy as np
import pytest
import runs
from PIL import Image
from runs import maskjax

SMALL = ("model.encoder.depth=1", "model.encoder.dim=16", "model.decoder.dim=8")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An npz file of 8 x 12 images of three classes, in train and test."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "images.npz"
    arrays = {}
    for split, count in (("train", 96), ("test", 40)):
        labels = np.arange(count) % 3
        noise = rng.integers(0, 60, (count, 8, 12, 1))
        arrays[f"image_{split}"] = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"label_{split}"] = labels
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """Patches of 4 x 3, so a grid of 2 x 4."""
    folder = tmp_path_factory.mktemp("wide") / "run"
    shape = ("model.image_size=(8,12)", "model.patch_size=(4,3)")
    assert runs.train(folder, f"data.path={images}", "train.steps=4", *shape, *SMALL) == 0
    assert list(runs.losses(folder)) == [1, 2, 3, 4]
    return folder


@pytest.mark.slow
def test_evaluate(trained, capsys):
    assert maskjax("evaluate", f"--workdir={trained}") == 0
    scores = json.loads((trained / "scores.json").read_text()).values()
    assert {"linear_probe", "held_out_loss", "effective_rank"} <= {s["name"] for s in scores}
    assert all(np.isfinite(score["value"]) for score in scores)
    pictures = trained / "pictures"
    assert {path.name for path in pictures.iterdir()} == {"reconstruction.png", "mask_coverage.png"}
    for path in pictures.iterdir():
        assert min(Image.open(path).size) > 20
    assert (trained / "report.html").is_file()


def test_reconstruct_and_embed(trained, images, tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "a.png")
    out = tmp_path / "sheet.png"
    command = ("reconstruct", f"--workdir={trained}", "--images", tmp_path / "a.png")
    assert maskjax(*command, f"--out={out}") == 0
    assert Image.open(out).size[0] > 4 * 12
    out = tmp_path / "features.npz"
    assert maskjax("embed", f"--workdir={trained}", f"--data={images}", f"--out={out}") == 0
    with np.load(out) as table:
        assert table["mean"].shape == (40, 16)
        assert table["label"].tolist() == [i % 3 for i in range(40)]


def test_export_of_patches_that_are_not_square_is_refused(trained, tmp_path, capsys):
    for form in ("timm", "mae", "hf"):
        out = tmp_path / f"{form}.safetensors"
        command = ("export", f"--workdir={trained}", f"--format={form}", f"--out={out}")
        assert maskjax(*command) == 2
        message = capsys.readouterr().err
        assert message.startswith("maskjax export: ")
        assert "patch_size=(4, 3)" in message
        assert len(message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
