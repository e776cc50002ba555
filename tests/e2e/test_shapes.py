"""Images and patches that are not square, through the whole chain."""

import json

import numpy as np
import pytest
import runs
from PIL import Image
from runs import maskjax

from maskjax.interop import files

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


def trained(folder, data, *options):
    given = (f"data.path={data}", "model.image_size=(8,12)", "train.steps=4", *SMALL, *options)
    assert runs.train(folder, *given) == 0
    assert list(runs.losses(folder)) == [1, 2, 3, 4]
    return folder


@pytest.fixture(scope="module")
def wide_patches(images, tmp_path_factory):
    """Patches of 2 x 3: a square grid of 4 x 4."""
    return trained(tmp_path_factory.mktemp("wide") / "run", images, "model.patch_size=(2,3)")


@pytest.fixture(scope="module")
def wide_grid(images, tmp_path_factory):
    """Patches of 2 x 2: a grid of 4 x 6."""
    return trained(tmp_path_factory.mktemp("grid") / "run", images, "model.patch_size=(2,2)")


@pytest.mark.slow
def test_evaluate(wide_patches, capsys):
    assert maskjax("evaluate", f"--workdir={wide_patches}") == 0
    scores = json.loads((wide_patches / "scores.json").read_text()).values()
    assert {"linear_probe", "held_out_loss", "effective_rank"} <= {s["name"] for s in scores}
    assert all(np.isfinite(score["value"]) for score in scores)
    pictures = wide_patches / "pictures"
    assert {path.name for path in pictures.iterdir()} == {"reconstruction.png", "mask_coverage.png"}
    for path in pictures.iterdir():
        assert min(Image.open(path).size) > 20
    assert (wide_patches / "report.html").is_file()


def test_reconstruct_and_embed(wide_grid, images, tmp_path, capsys):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "a.png")
    out = tmp_path / "sheet.png"
    command = ("reconstruct", f"--workdir={wide_grid}", "--images", tmp_path / "a.png")
    assert maskjax(*command, f"--out={out}") == 0
    assert Image.open(out).size[0] > 4 * 12
    out = tmp_path / "features.npz"
    assert maskjax("embed", f"--workdir={wide_grid}", f"--data={images}", f"--out={out}") == 0
    with np.load(out) as table:
        assert table["mean"].shape == (40, 16)
        assert table["label"].tolist() == [i % 3 for i in range(40)]


def test_export_of_a_grid_that_is_not_square(wide_grid, tmp_path, capsys):
    for form, note in (
        ("timm", "img_size=(8, 12), patch_size=2"),
        ("mae", "note: the official MAE code builds square patch grids only"),
        ("hf", "note: transformers' ViTMAE builds square patch grids only"),
    ):
        out = tmp_path / f"{form}.safetensors"
        command = ("export", f"--workdir={wide_grid}", f"--format={form}", f"--out={out}")
        assert maskjax(*command) == 0
        assert note in capsys.readouterr().out
        arrays, _ = files.read(out)
        table = "vit.embeddings.position_embeddings" if form == "hf" else "pos_embed"
        assert arrays[table].shape == (1, 1 + 4 * 6, 16)


def test_export_of_patches_that_are_not_square_is_refused(wide_patches, tmp_path, capsys):
    for form in ("timm", "mae", "hf"):
        out = tmp_path / f"{form}.safetensors"
        command = ("export", f"--workdir={wide_patches}", f"--format={form}", f"--out={out}")
        assert maskjax(*command) == 2
        message = capsys.readouterr().err
        assert message.startswith("maskjax export: ")
        assert "patch_size=(2, 3)" in message
        assert len(message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
