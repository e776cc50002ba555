"""Whole files out and in: reports, metadata, guessed layouts, snippets."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from interop_trees import FULL, random_tree
from test_interop_tables import assert_same

import maskjax
from maskjax.errors import UserError
from maskjax.interop import export_weights, files, import_weights
from maskjax.interop.guess import choose, looks_like
from maskjax.interop.layouts import LAYOUTS

SETTINGS = {
    "norm_eps": 1e-6,
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.2, 0.2),
    "mask_ratio": 0.75,
    "norm_pix": True,
}
PARAMS = random_tree(FULL)
ENCODER = {"encoder": PARAMS["encoder"]}
CLASSIFIER = replace(
    FULL.encoder_only(), pool="gap", num_classes=5, position="learned", image_size=(12, 12)
)


def export(tmp_path, format, what="full", suffix=".safetensors", **options):
    out = tmp_path / f"{format}-{what}{suffix}"
    return export_weights(PARAMS, FULL, SETTINGS, format, out, what, **options)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("format", ["mae", "hf"])
def test_full_round_trip_needs_nothing_but_the_file(tmp_path, format, suffix):
    report = export(tmp_path, format, suffix=suffix)
    params, read = import_weights(report.path)
    assert_same(params, PARAMS)
    assert read.geometry == FULL and read.layout == format == report.layout
    assert not (read.kept or read.ignored or read.notes)
    assert report.num_arrays == read.num_arrays


@pytest.mark.parametrize("format", ["mae", "timm", "hf"])
def test_encoder_round_trip(tmp_path, format):
    report = export(tmp_path, format, "encoder")
    assert any(line.startswith("decoder/ (23 arrays") for line in report.dropped)
    params, read = import_weights(report.path)
    assert_same(params, ENCODER)
    assert read.geometry == FULL.encoder_only()
    with pytest.raises(UserError, match="allow_missing="):
        import_weights(report.path, PARAMS, FULL)
    whole, read = import_weights(report.path, PARAMS, FULL, allow_missing=("decoder/*",))
    assert_same(whole, PARAMS)
    assert read.kept and all("decoder/" in name for name in read.kept)
    assert "kept as initialised: decoder/" in str(read)


def test_timm_never_holds_the_decoder(tmp_path):
    report = export(tmp_path, "timm")
    assert any("decoder/" in line for line in report.dropped)
    assert any("mask_ratio" in line for line in report.dropped)
    assert any("fixed sin-cos table" in line for line in report.notes)
    arrays, _ = files.read(report.path)
    assert not any("decoder" in key or "mask" in key for key in arrays)


def test_metadata_is_strings_with_everything_needed(tmp_path):
    _, metadata = files.read(export(tmp_path, "hf").path)
    assert metadata["format"] == "pt"  # transformers refuses safetensors that do not say so
    assert metadata["layout"] == "hf"
    assert metadata["maskjax_version"] == maskjax.__version__
    assert json.loads(metadata["mean"]) == list(SETTINGS["mean"])
    assert json.loads(metadata["mask_ratio"]) == 0.75
    assert json.loads(metadata["norm_pix"]) is True


def test_classifier_gets_the_names_of_fine_tuned_files(tmp_path):
    params = random_tree(CLASSIFIER)
    report = export_weights(params, CLASSIFIER, {}, "mae", tmp_path / "c.safetensors")
    arrays, metadata = files.read(report.path)
    assert metadata["layout"] == "classify"
    assert {"fc_norm.weight", "head.bias", "pos_embed"} <= arrays.keys()
    assert "norm.weight" not in arrays
    assert "global_pool='avg'" in report.snippet and "num_classes=5" in report.snippet
    assert_same(import_weights(report.path)[0], params)
    assert_same(import_weights(report.path, format="timm")[0], params)


def test_snippets_and_report_say_how_to_load(tmp_path):
    timm, hf, mae = (export(tmp_path, format) for format in ("timm", "hf", "mae"))
    assert "timm.models.VisionTransformer(img_size=(8, 12), patch_size=4" in timm.snippet
    assert "ViTMAEForPreTraining.from_pretrained(None, config=config" in hf.snippet
    assert "layer_norm_eps=1e-06" in hf.snippet and "norm_pix_loss=True" in hf.snippet
    assert "models_mae.MaskedAutoencoderViT(" in mae.snippet
    for report in (timm, hf, mae):
        assert len(report.snippet.splitlines()) == 2
        assert str(report.path) in report.snippet
        compile(report.snippet, "snippet", "exec")
    assert any("square patch grids only" in note for note in hf.notes)
    text = str(timm)
    assert "dropped: decoder/" in text and "Load it in PyTorch:" in text
    npz = export(tmp_path, "timm", suffix=".npz")
    compile(npz.snippet, "snippet", "exec")
    assert "numpy.load" in npz.snippet


def test_bfloat16_parameters_stay_bfloat16_in_the_file(tmp_path):
    params = random_tree(FULL, dtype=ml_dtypes.bfloat16)
    report = export_weights(params, FULL, {}, "mae", tmp_path / "w.safetensors")
    assert_same(import_weights(report.path, params, FULL)[0], params)
    upcast, read = import_weights(report.path)
    assert upcast["encoder"]["norm"]["scale"].dtype == np.float32
    assert any("cast from bfloat16 to float32" in note for note in read.notes)


def test_wrong_arguments_of_export(tmp_path):
    with pytest.raises(
        UserError, match="unknown export format 'onnx'; choose one of mae, timm, hf"
    ):
        export(tmp_path, "onnx")
    with pytest.raises(UserError, match="what='decoder'"):
        export(tmp_path, "mae", "decoder")
    with pytest.raises(UserError, match=r"written as \.safetensors"):
        export(tmp_path, "mae", suffix=".pth")
    wrong = replace(FULL, heads=6, mlp_hidden=41)
    with pytest.raises(UserError) as error:
        export_weights(PARAMS, wrong, {}, "mae", tmp_path / "w.safetensors")
    assert "attn/query/kernel is (2, 24, 3, 8), the geometry says (2, 24, 6, 4)" in str(error.value)
    with pytest.raises(UserError, match="decoder/mask_token is missing"):
        export_weights(ENCODER, FULL, {}, "mae", tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_geometry_is_refused_by_its_metadata(tmp_path):
    """Other heads have the same shapes: only the metadata can tell."""
    report = export(tmp_path, "mae")
    wrong = replace(FULL, heads=6)
    with pytest.raises(UserError, match=r"field: file, model(.|\n)*heads: 3, 6"):
        import_weights(report.path, random_tree(wrong), wrong)
    wide = replace(FULL, image_size=(16, 16))  # a fixed table belongs to no parameter
    params, read = import_weights(report.path, PARAMS, wide)
    assert_same(params, PARAMS)
    assert any("2x3 grid; the model regenerates it for 4x4" in note for note in read.notes)


def test_fine_tuning_trains_a_table_that_began_as_the_fixed_one(tmp_path):
    report = export(tmp_path, "mae", "encoder")
    learned = replace(FULL.encoder_only(), position="learned")
    params, _ = import_weights(report.path, geometry=learned)
    table = params["encoder"].pop("pos_embed")
    assert_same(params, ENCODER)
    np.testing.assert_array_equal(table, files.read(report.path)[0]["pos_embed"][0])
    params["encoder"]["pos_embed"] = table + 1
    report = export_weights(params, learned, {}, "mae", tmp_path / "learned.safetensors")
    with pytest.raises(UserError, match="trained table"):
        import_weights(report.path, geometry=FULL.encoder_only())


def bare(tmp_path, layout, geometry, params):
    """A file without metadata, as other people's are."""
    from maskjax.interop import to_torch

    path = tmp_path / f"{layout}.safetensors"
    rules = LAYOUTS[layout](geometry)
    files.write(path, to_torch(params, rules), {})
    return path


@pytest.mark.parametrize("layout", ["mae", "hf", "hf5", "hf5saved"])
@pytest.mark.parametrize("say", [True, False])
def test_layouts_of_bare_files_are_told_by_names(tmp_path, layout, say):
    path = bare(tmp_path, layout, FULL, PARAMS)
    params, read = import_weights(path, PARAMS, FULL, layout[:3].rstrip("5") if say else None)
    assert read.layout == layout
    assert_same(params, PARAMS)
    assert any("heads was not checked" in note for note in read.notes)
    with pytest.raises(UserError, match="give the geometry"):
        import_weights(path)


def test_wrong_layout_names_the_one_that_fits(tmp_path):
    path = bare(tmp_path, "hf", FULL, PARAMS)
    with pytest.raises(UserError, match="looks like layout hf, encoder and decoder"):
        import_weights(path, PARAMS, FULL, "timm")
    with pytest.raises(UserError, match="unknown format 'jax'"):
        import_weights(path, PARAMS, FULL, "jax")
    tuned = bare(tmp_path, "classify", CLASSIFIER, random_tree(CLASSIFIER))
    with pytest.raises(UserError) as error:
        import_weights(tuned, PARAMS, FULL)
    message = str(error.value)
    assert "unused: fc_norm.weight" in message
    assert "looks like layout classify, mean pooling (pool='gap')" in message
    assert "allow_unused=" in message
    odd = tmp_path / "odd.npz"
    files.write(odd, {"layer1.0.conv1.weight": np.zeros(3)}, {})
    with pytest.raises(UserError, match=r"odd.npz: no layout known here(.|\n)*conv1.weight"):
        import_weights(odd, PARAMS, FULL)


def test_guesses():
    keys = {
        layout: [r.theirs.replace("{i}", "3") for r in LAYOUTS[layout](FULL)]
        for layout in ("mae", "timm", "hf", "hf5", "hf5saved")
    }
    for layout, names in keys.items():
        expected = "mae" if layout == "timm" else layout
        assert choose(names, FULL) == expected
        assert looks_like(names).layout == expected
        assert looks_like(names).score == 1
    assert looks_like(["x.y"]) is None
    with pytest.raises(UserError, match="no layout"):
        choose([], FULL)
