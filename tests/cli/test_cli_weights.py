"""maskjax export, import and load: to every target and back, on real runs."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import runs
from runs import TINY, maskjax

import maskjax as package
from maskjax import build
from maskjax.cli import run_arguments
from maskjax.config import load_config
from maskjax.errors import UserError
from maskjax.interop import Geometry, check, export_weights, files, layouts
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_tree
from maskjax.saved import open_run

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "run"
    # Sharded over the 8 devices of these tests, as on a pod.
    assert runs.train(folder, "mesh.fsdp=2", "mesh.tensor=2") == 0
    return folder


def export(trained, form, out, *options) -> int:
    return maskjax("export", f"--workdir={trained}", f"--format={form}", f"--out={out}", *options)


def encode(path, **options):
    predict, params, metadata = package.load(path, **options)
    return predict["encode"](params, IMAGES), metadata


def assert_equal(found, expected):
    for name in ("cls", "mean", "tokens"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "form, name",
    [
        ("mae", "w.safetensors"),
        ("timm", "w.npz"),
        ("timm", "folder"),
        ("hf", "folder"),
        ("hf_vit", "folder"),
        ("dino", "w.safetensors"),
    ],
)
def test_features_are_the_same_from_every_export(trained, form, name, tmp_path, capsys):
    out = tmp_path / name
    assert export(trained, form, out, "--check") == 0
    shown = capsys.readouterr().out
    assert "read back: every parameter is the same, bit for bit" in shown
    features, metadata = encode(out)
    expected, facts = encode(trained)
    assert_equal(features, expected)
    assert metadata["mean"] == tuple(facts["mean"])
    assert metadata["geometry"].dim == 32


def test_a_difference_is_an_exit_code(trained, tmp_path, capsys, monkeypatch):
    wrong = check.ParityReport((), (check.Row("block 1", 0.5, 1.0),), "timm")
    monkeypatch.setattr(check, "check_export", lambda *given: wrong)
    assert export(trained, "timm", tmp_path / "w.npz", "--check") == 1
    assert "block 1  5.0e-01  of 1  DIFFERS" in capsys.readouterr().out


def test_a_run_of_eight_devices_is_exported_on_one(trained, tmp_path):
    outs = {}
    for devices in (1, 8):
        outs[devices] = tmp_path / f"{devices}.safetensors"
        if devices == 8:
            assert export(trained, "mae", outs[8]) == 0
            continue
        argv = ("export", f"--workdir={trained}", "--format=mae", f"--out={outs[1]}")
        flags = f"--xla_force_host_platform_device_count={devices}"
        command = [sys.executable, "-m", "maskjax", *argv]
        subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": flags})
    (one, facts), (eight, expected) = (files.read(outs[devices]) for devices in (1, 8))
    assert facts == expected and one.keys() == eight.keys()
    for key, array in one.items():
        np.testing.assert_array_equal(array, eight[key], err_msg=key)


def test_folders_hold_what_the_library_reads(trained, tmp_path):
    assert export(trained, "hf", tmp_path / "hub") == 0
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["model_type"] == "vit_mae" and config["mask_ratio"] == 0.5
    assert export(trained, "timm", tmp_path / "timm") == 0
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert config["model_args"]["img_size"] == [8, 8]


def test_the_formats_of_the_commands_are_those_of_the_tables():
    assert tuple(layouts.FORMATS) == run_arguments.FORMATS


def test_a_program_of_its_own(trained, tmp_path, capsys):
    out = tmp_path / "encode.stablehlo"
    assert export(trained, "stablehlo", out) == 0
    assert "Run it with jax alone" in capsys.readouterr().out
    program = jax.export.deserialize(bytearray(out.read_bytes()))
    expected, _ = encode(trained)
    assert_equal(program.call(IMAGES), expected)
    assert_equal(program.call(IMAGES[:1]), {k: v[:1] for k, v in expected.items()})
    assert program.platforms == ("cpu", "cuda", "tpu")


def test_import_makes_a_run_that_other_commands_read(trained, tmp_path, capsys):
    assert export(trained, "hf", tmp_path / "hub") == 0
    out = tmp_path / "run"
    command = ("import", TINY, f"--file={tmp_path / 'hub'}", f"--out={out}")
    assert maskjax(*command) == 0
    assert f"next: maskjax evaluate --workdir={out}" in capsys.readouterr().out
    run, origin = open_run(out), open_run(trained)
    assert run.step == 0
    config, _ = load_config(TINY.removeprefix("--config="), [f"--config.init_from={out}"])
    begun = build.experiment(config, 1400)
    begun.check_init()
    for params in (run.params, begun.start().params):
        for path, leaf in flatten(params).items():
            np.testing.assert_array_equal(leaf, flatten(origin.params)[path], err_msg=path)
    assert maskjax(*command) == 2
    assert "there is a run already" in capsys.readouterr().err


def test_import_into_a_file(trained, tmp_path, capsys):
    assert export(trained, "timm", tmp_path / "encoder.safetensors") == 0
    command = ["import", TINY, f"--file={tmp_path / 'encoder.safetensors'}", "--format=timm"]
    out = f"--out={tmp_path / 'mae.safetensors'}"
    assert maskjax(*command, out) == 2
    assert "missing: decoder/" in capsys.readouterr().err
    assert maskjax(*command, out, "--missing", "decoder/*") == 0
    again, _ = files.read(tmp_path / "mae.safetensors")
    before, _ = files.read(tmp_path / "encoder.safetensors")
    for key, array in before.items():
        np.testing.assert_array_equal(again[key], array, err_msg=key)
    assert "decoder_pred.weight" in again


def test_what_cannot_be_exported_is_said(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = (
        (("mae", tmp_path / "folder"), "layout mae has no config.json; --out must name a file"),
        (("clip", tmp_path / "folder"), "layout clip has no config.json; --out must name a file"),
        (("stablehlo", "w.safetensors"), "the name must end in .stablehlo"),
        (("stablehlo", "w.stablehlo", "--check"), "--check compares weights"),
        (("timm", "no/folder"), "no does not exist"),
        (("timm", ""), "the name must end in .safetensors"),
    )
    for options, words in cases:
        assert export(trained, *options) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_load_says_what_it_lacks(tmp_path):
    geometry = Geometry((8, 8), 4, 1, 24, 1, 3, 40)
    draw = np.random.default_rng(0).normal
    shapes = param_tree(geometry)
    params = jax.tree.map(lambda leaf: draw(0, 0.2, leaf.shape).astype(np.float32), shapes)
    path = tmp_path / "w.safetensors"
    export_weights(params, geometry, {}, "mae", path)
    with pytest.raises(UserError, match="do not say the channel mean and std"):
        encode(path)
    stated, metadata = encode(path, mean=(0.5,), std=(0.25,))
    predict, params, _ = package.load(path)
    floats = (np.float32(IMAGES) / 255 - 0.5) / 0.25
    assert_equal(predict["encode"](params, floats), stated)
    assert metadata["layout"] == "mae" and metadata["mean"] == (0.5,)
    with pytest.raises(UserError, match=r"images are \(3, 4, 8, 1\); this encoder takes \(batch"):
        predict["encode"](params, floats[:, :4])
    with pytest.raises(UserError, match="no such file"):
        package.load(tmp_path / "none.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="a folder without weights"):
        package.load(tmp_path / "empty")
