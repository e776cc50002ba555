"""Folders of models: config.json tells the geometry, weights may be in shards."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from interop_trees import FULL, geometries, random_tree
from test_interop_tables import assert_same

from maskjax.errors import UserError
from maskjax.interop import Geometry, export_weights, files, folders, import_weights, to_torch
from maskjax.interop.hf_config import geometry_of
from maskjax.interop.hub_config import CLASSES, transformers_config
from maskjax.interop.layouts import LAYOUTS

ENCODER = replace(FULL.encoder_only(), image_size=(12, 12))
LAYOUTS_OF_FOLDERS = ("hf", "hf_vit", "hf_dinov2", "hf_clip", "hf_beit", "hf_videomae")
few = settings(max_examples=40, deadline=None)


def shards(folder, layout="hf_vit", geometry=replace(ENCODER, position="learned"), config=True):  # noqa: B008
    """A folder as transformers writes large models: three shards and an index."""
    folder.mkdir(exist_ok=True)
    tree = random_tree(geometry)
    arrays = to_torch(tree, LAYOUTS[layout](geometry))
    where = {key: f"model-{i % 3}.safetensors" for i, key in enumerate(arrays)}
    for name in set(where.values()):
        part = {key: arrays[key] for key in arrays if where[key] == name}
        files.write(folder / name, part, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config:
        content = transformers_config(layout, geometry, {})
        (folder / "config.json").write_text(json.dumps(content))
    return tree, geometry, index


def test_shards(tmp_path):
    tree, geometry, _ = shards(tmp_path)
    params, report = import_weights(tmp_path)
    assert_same(params, tree)
    assert report.geometry == geometry and report.layout == "hf_vit"
    assert report.num_arrays == len(to_torch(tree, LAYOUTS["hf_vit"](geometry)))


def test_damaged_folders(tmp_path):
    _, _, index = shards(tmp_path)
    path = tmp_path / "model.safetensors.index.json"

    def refusal(change) -> str:
        path.write_text(json.dumps(change))
        with pytest.raises(UserError) as error:
            import_weights(tmp_path)
        return str(error.value)

    key = next(iter(index["weight_map"]))
    outside = {**index["weight_map"], key: "../model-0.safetensors"}
    assert "not a file of this folder" in refusal({"weight_map": outside})
    swapped = {**index["weight_map"], key: "model-1.safetensors"}
    assert f"says that model-1.safetensors holds {key}, which it does not" in refusal(
        {"weight_map": swapped}
    )
    gone = {**index["weight_map"], key: "model-9.safetensors"}
    assert "model-9.safetensors: no such file" in refusal({"weight_map": gone})
    assert "has no weight_map" in refusal({})
    assert "holds a list, not an object" in refusal([])
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        import_weights(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="a folder without weights; looked for"):
        import_weights(tmp_path)


def test_a_folder_of_shards_without_a_config_needs_the_geometry(tmp_path):
    tree, geometry, _ = shards(tmp_path, config=False)
    with pytest.raises(UserError, match="give the geometry"):
        import_weights(tmp_path)
    assert_same(import_weights(tmp_path, geometry=geometry)[0], tree)


@pytest.mark.parametrize("layout", LAYOUTS_OF_FOLDERS)
@few
@given(data=st.data())
def test_a_config_says_the_geometry_or_is_not_written(layout, data, tmp_path_factory):
    """What transformers' class is not is refused: it would load, and compute something else."""
    geometry = data.draw(geometries(layout))
    if layout == "hf_dinov2":
        wide = 48 if geometry.mlp == "swiglu" else 24
        geometry = replace(geometry, dim=24, heads=3, mlp_hidden=wide)
    if layout == "hf_clip":
        options = {"pre_norm": True, "patch_bias": False, "activation": "quick_gelu"}
        geometry = replace(geometry, **options, qkv_bias="all")
    out = tmp_path_factory.mktemp("folder") / "hub"
    try:
        export_weights(random_tree(geometry), geometry, {}, layout, out)
    except UserError as error:
        assert "transformers" in str(error)
        assert not out.exists()
        assume(False)
    told = geometry_of(folders.read_json(out / "config.json"))
    assert told == replace(geometry, position=told.position)
    params, report = import_weights(out)
    assert report.geometry == geometry
    assert_same(params, random_tree(geometry))


KIND = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}


def test_configs_of_the_hub():
    """Entries that hub files leave to the library's defaults."""
    clip = {"model_type": "clip", "projection_dim": 10, "vision_config": KIND}
    geometry = geometry_of(clip)
    assert geometry.projection == 10 and geometry.activation == "quick_gelu"
    assert geometry.pre_norm and not geometry.patch_bias and geometry.eps == 1e-5
    vit = geometry_of({**KIND, "model_type": "vit", "image_size": [8, 16]})
    assert vit.image_size == (8, 16) and vit.eps == 1e-12 and vit.mlp_hidden == 96
    giant = {**KIND, "model_type": "dinov2", "hidden_size": 1536, "use_swiglu_ffn": True}
    assert geometry_of({**giant, "num_attention_heads": 24}).mlp_hidden == 4096
    assert geometry_of({"architecture": "vit_base_patch16_224"}) is None  # of timm
    labels = {"architectures": ["ViTForImageClassification"], "id2label": {"0": "a", "1": "b"}}
    assert geometry_of({**KIND, **labels, "model_type": "vit"}).num_classes == 2


def test_configs_that_cannot_be_read():
    for config, words in (
        ({**KIND, "model_type": "llama"}, "model_type 'llama'; the kinds read here are vit"),
        ({**KIND, "model_type": "vit", "hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"model_type": "vit", "image_size": 16}, "has no entry 'patch_size'"),
        ({**KIND, "model_type": "vit", "patch_size": [4, 2]}, "no whole number"),
    ):
        with pytest.raises(UserError, match=words):
            geometry_of(config)


def test_every_layout_of_hugging_face_has_a_class():
    assert {name for name in LAYOUTS if name.startswith("hf")} <= {*CLASSES, "hf5", "hf5saved"}


def test_folders_of_other_layouts_are_refused(tmp_path):
    for format in ("mae", "clip", "beit", "simmim"):
        geometry = replace(ENCODER, position="learned")
        with pytest.raises(UserError, match=r"has no config\.json; --out must name a file"):
            export_weights(random_tree(geometry), geometry, {}, format, tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_timm(tmp_path):
    geometry = replace(ENCODER, pool="gap", num_classes=3, position="learned")
    tree = random_tree(geometry)
    report = export_weights(tree, geometry, {"mean": (0.5, 0.4, 0.3)}, "timm", tmp_path / "t")
    config = folders.read_json(tmp_path / "t" / "config.json")
    assert config["num_classes"] == 3 and config["pretrained_cfg"]["mean"] == [0.5, 0.4, 0.3]
    assert "timm.create_model('local-dir:" in report.snippet
    params, read = import_weights(tmp_path / "t")
    assert_same(params, tree)
    assert read.geometry == geometry


def test_what_lies_around_an_encoder_is_left_out_by_name_only(tmp_path):
    geometry = Geometry((8, 8), 4, 3, 24, 2, 3, 40, position="learned")
    tree = random_tree(geometry)
    arrays = to_torch(tree, LAYOUTS["clip"](geometry))
    arrays |= {"logit_scale": np.zeros(()), "transformer.resblocks.0.ln_1.bias": np.zeros(4)}
    path = tmp_path / "clip.safetensors"
    files.write(path, arrays, {})
    with pytest.raises(UserError, match="unused: logit_scale"):
        import_weights(path, geometry=geometry, format="clip")
    params, report = import_weights(path, geometry=geometry, format="clip", encoder_only=True)
    assert_same(params, tree)
    assert set(report.ignored) == {"logit_scale", "transformer.resblocks.0.ln_1.bias"}
    files.write(path, arrays | {"visual.ln_mid.bias": np.zeros(3)}, {})
    with pytest.raises(UserError, match=r"unused: visual\.ln_mid\.bias"):
        import_weights(path, geometry=geometry, format="clip", encoder_only=True)


def test_buffers_and_wrappers_of_torch(tmp_path):
    geometry = replace(ENCODER, position="none", relative="layer", qkv_bias="query_value")
    tree, path = random_tree(geometry), tmp_path / "w.safetensors"
    arrays = to_torch(tree, LAYOUTS["beit"](geometry))
    arrays["blocks.0.attn.relative_position_index"] = np.zeros((10, 10), np.int64)
    files.write(path, {f"module.{key}": array for key, array in arrays.items()}, {})
    params, report = import_weights(path, geometry=geometry)
    assert_same(params, tree)
    assert report.layout == "beit"
    assert report.ignored == ("module.blocks.0.attn.relative_position_index",)
