"""Every command on one trained run: what it prints and what it writes."""

import io
import json
import logging
import sys

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import runs
from PIL import Image
from runs import maskjax

from maskjax import doctor
from maskjax.cli import train
from maskjax.data.source import resolve
from maskjax.interop import files
from maskjax.saved import open_run

SUMS = ("knn@20", "linear_probe", "effective_rank", "held_out_loss", "held_out_trivial")


def test_the_folder_of_a_run(trained):
    there = {path.name for path in trained.iterdir()}
    assert {"config.json", "overrides.json", "run.json", "parameters.txt", "checkpoints"} <= there
    assert {"metrics.jsonl", "tb"} <= there
    assert not any(name.startswith(".") for name in there)
    assert runs.steps_saved(trained) == [12, 24]
    assert list((trained / "tb").glob("events.*"))
    config = json.loads((trained / "config.json").read_text())
    assert config["method"] == "mim.mae"
    assert config["model"]["image_size"] == [8, 8]
    changed = json.loads((trained / "overrides.json").read_text())
    assert changed["train.steps"] == config["train"]["steps"] == runs.STEPS
    assert changed["optim.ema"] == 0.9
    table = (trained / "parameters.txt").read_text()
    assert "encoder/blocks/attn/query/kernel" in table


def test_the_loss_falls_and_every_line_is_complete(trained):
    losses = runs.losses(trained)
    assert list(losses) == list(range(1, runs.STEPS + 1))
    assert losses[runs.STEPS] < 0.5 * losses[1]
    for line in runs.lines(trained):
        assert {"loss", "loss/reconstruction", "grad_norm", "lr", "time"} <= line.keys()
    assert runs.lines(trained)[-1]["images_per_second"] > 0
    assert max(line["lr"] for line in runs.lines(trained)) == pytest.approx(3e-3, rel=0.05)


def test_lines_of_training(tmp_path, capsys):
    assert runs.train(tmp_path, "train.log_every=10") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[1].startswith("mim.mae: 29,588 parameters, 24 steps of 64 images (1.1 epochs)")
    assert lines[0] == (
        "processes: 1 expected, 1 present; 8 device(s) (cpu),"
        " mesh replica 1 x data 8 x fsdp 1 x tensor 1"
    )
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1/24", "10/24", "20/24", "24/24"]
    assert "loss" in steps[1]
    assert "images/s  ETA" in steps[1]
    assert lines[-2:] == [
        f"done: step 24 in {tmp_path}/checkpoints",
        f"next: maskjax evaluate --workdir={tmp_path}",
    ]
    assert "Warning" not in shown.err
    assert "Traceback" not in shown.err


def test_log_lines_go_where_stderr_is_now(monkeypatch):
    """A progress bar replaces it while it lives; else lines would be written into the bar."""
    handler = train._StderrHandler()
    before = io.StringIO()
    monkeypatch.setattr(sys, "stderr", before)
    handler.emit(logging.makeLogRecord({"msg": "one"}))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    handler.emit(logging.makeLogRecord({"msg": "two"}))
    assert (before.getvalue(), sys.stderr.getvalue()) == ("one\n", "two\n")


@pytest.mark.slow
def test_evaluate_writes_scores_pictures_and_a_report(trained, capsys):
    assert maskjax("evaluate", f"--workdir={trained}") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[-1] == f"report: {trained / 'report.html'}"
    scores = json.loads((trained / "scores.json").read_text()).values()
    found = {(score["name"], score["weights"]): score["value"] for score in scores}
    ours = f"checkpoint step {runs.STEPS}"
    for name in SUMS:
        assert np.isfinite(found[name, ours]), name
    for name in ("knn@20", "linear_probe"):
        assert 0 < found[name, ours] <= 1
        assert (name, "random init") in found
        assert (name, "raw pixels") in found
    assert found["held_out_loss", ours] < 1
    sizes = {path.name: Image.open(path).size for path in (trained / "pictures").iterdir()}
    assert sizes.keys() == {"reconstruction.png", "mask_coverage.png"}
    report = (trained / "report.html").read_text()
    for text in ("linear_probe", "data:image/png;base64", "mim.mae"):
        assert text in report
    for text in ('src="http', "<script src", '<link rel="stylesheet" href="http'):
        assert text not in report


def test_evaluate_some_at_a_step_and_of_the_average(trained, capsys):
    values = {}
    for options in ([], ["--step=12"], ["--ema"], ["--step=12", "--ema"]):
        assert maskjax("evaluate", f"--workdir={trained}", "--evaluators=held_out", *options) == 0
        (line,) = [
            x for x in capsys.readouterr().out.splitlines() if x.startswith("held_out_loss,")
        ]
        name, _, value = line.partition(": ")
        values[name.removeprefix("held_out_loss, ")] = float(value)
    assert list(values) == [
        "checkpoint step 24",
        "checkpoint step 12",
        "checkpoint step 24 (moving average)",
        "checkpoint step 12 (moving average)",
    ]
    assert len(set(values.values())) == 4


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("form", ["mae", "timm", "hf"])
def test_export(trained, tmp_path, capsys, form, suffix):
    out = tmp_path / f"weights.{suffix}"
    assert maskjax("export", f"--workdir={trained}", f"--format={form}", f"--out={out}") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"{out}: " in shown.out
    assert f"layout {form}" in shown.out
    assert "Load it in PyTorch:" in shown.out
    assert ("dropped: decoder/" in shown.out) == (form == "timm")
    arrays, metadata = files.read(out)
    params = open_run(trained).params
    kernel = params["encoder"]["patch_embed"]["kernel"]
    name = "vit.embeddings.patch_embeddings.projection" if form == "hf" else "patch_embed.proj"
    assert arrays[f"{name}.weight"].shape == (32, 1, 2, 2)
    assert np.array_equal(arrays[f"{name}.weight"].reshape(32, 4).T, jax.device_get(kernel))
    assert metadata["method"] == "mim.mae"
    assert metadata["step"] == str(runs.STEPS)
    assert metadata["mask_ratio"] == "0.5"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_export_of_the_average_and_of_the_encoder(trained, tmp_path):
    weights = {}
    for name, options in (("own", []), ("average", ["--ema"]), ("encoder", ["--what=encoder"])):
        out = tmp_path / f"{name}.npz"
        command = ("export", f"--workdir={trained}", "--format=mae", f"--out={out}")
        assert maskjax(*command, *options) == 0
        weights[name] = files.read(out)[0]
    assert weights["own"].keys() == weights["average"].keys() > weights["encoder"].keys()
    assert not any("decoder" in key for key in weights["encoder"])
    key = "blocks.0.attn.qkv.weight"
    assert np.array_equal(weights["own"][key], weights["encoder"][key])
    assert not np.array_equal(weights["own"][key], weights["average"][key])


def test_reconstruct(trained, pictures, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    command = ["reconstruct", f"--workdir={trained}", "--images", *pictures, f"--out={out}"]
    assert maskjax(*command) == 0
    assert capsys.readouterr().out == f"{out}: 2 image(s), checkpoint step 24\n"
    first = np.asarray(Image.open(out))
    assert first.ndim == 3
    assert maskjax(*command) == 0
    assert np.array_equal(first, np.asarray(Image.open(out)))
    assert maskjax(*command, "--seed=1") == 0
    assert not np.array_equal(first, np.asarray(Image.open(out)))


def table_of(path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    columns = pq.read_table(path).to_pydict()
    return {name: np.asarray(values) for name, values in columns.items()}


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_embed_holds_every_image_once(trained, tmp_path, capsys, suffix):
    out = tmp_path / f"features.{suffix}"
    assert maskjax("embed", f"--workdir={trained}", "--data=digits", f"--out={out}") == 0
    assert capsys.readouterr().out == f"{out}: 397 images, 32 features, checkpoint step 24\n"
    table = table_of(out)
    source = resolve("digits", "test")
    expected = [source[i] for i in range(len(source))]
    assert table["id"].tolist() == [example["id"] for example in expected]
    assert len(set(table["id"].tolist())) == 397
    assert table["label"].tolist() == [example["label"] for example in expected]
    for pool in ("cls", "mean"):
        assert table[pool].shape == (397, 32)
        assert table[pool].dtype in (np.float32, np.float64)
        assert np.isfinite(table[pool]).all()
        assert len(np.unique(table[pool].round(4), axis=0)) > 390
    assert (out.stat().st_mode & 0o777) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_embed_equals_the_encoder_and_takes_other_data(trained, tmp_path, pictures, capsys):
    """Images of a folder without labels, in an order of their own, resized to the model's size."""
    out = tmp_path / "features.npz"
    data = f"--data=folder:{pictures[0].parent}"
    assert maskjax("embed", f"--workdir={trained}", data, f"--out={out}") == 0
    table = table_of(out)
    assert table["id"].tolist() == ["colour.png", "grey.jpg"]
    assert "label" not in table
    run = open_run(trained)
    from maskjax import evaluation

    batch = evaluation.images_batch(run.config, [str(path) for path in pictures])
    batch = {name: batch[name] for name in ("image", "position")}
    features = run.predict["encode"](run.params, run.extra, batch, evaluation.draws_for(batch))
    for pool in ("cls", "mean"):
        np.testing.assert_allclose(table[pool], np.asarray(features[pool])[:2], 1e-4, 1e-5)


def test_data_stats(capsys):
    assert maskjax("data-stats", "--data=digits") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "1400 of 1400 images of digits (train)"
    source = resolve("digits", "train")
    pixels = np.stack([source[i]["image"] for i in range(len(source))]) / 255
    assert shown[1] == f"config.model.mean = ({pixels.mean():.4f},)"
    assert shown[2] == f"config.model.std = ({pixels.std():.4f},)"
    assert maskjax("data-stats", "--data=digits", "--split=test", "--limit=7") == 0
    assert capsys.readouterr().out.startswith("7 of 397 images of digits (test)")


@pytest.mark.slow
def test_doctor(capsys):
    assert maskjax("doctor") == 0
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.out.splitlines()] == [
        f"ok    {name}" for name in doctor.CHECKS
    ]
    assert shown.err == ""


def test_doctor_says_what_is_wrong(capsys, monkeypatch):
    def broken() -> str:
        raise ArithmeticError("1 is not 2")

    monkeypatch.setattr(doctor, "CHECKS", {"fine": lambda: "yes", "arithmetic": broken})
    assert maskjax("doctor") == 1
    shown = capsys.readouterr()
    assert shown.out == "ok    fine: yes\n"
    assert shown.err == "FAIL  arithmetic: ArithmeticError: 1 is not 2\n"


def test_reading_a_run_changes_nothing_in_it(trained, tmp_path, pictures):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    out = tmp_path / "x"
    for command in (
        ("export", "--format=hf", f"--out={out}.npz"),
        ("reconstruct", "--images", pictures[0], f"--out={out}.png"),
        ("embed", "--data=digits", f"--out={out}.parquet"),
    ):
        name, *options = command
        assert maskjax(name, f"--workdir={trained}", *options) == 0
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
