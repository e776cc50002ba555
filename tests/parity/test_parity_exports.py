"""Exports as a user makes them: files and folders that timm and transformers take without help."""

from dataclasses import replace

import jax
import numpy as np
import pytest

reason = "live parity needs PyTorch: `make test-torch`"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)
timm = pytest.importorskip("timm", reason=reason)

from torch_models import images_for, ours  # noqa: E402

from maskjax.interop import Geometry, export_weights, hub_config, import_weights  # noqa: E402
from maskjax.interop.check import check_export  # noqa: E402
from maskjax.interop.shapes import param_tree  # noqa: E402

MAE = Geometry((16, 16), 4, 3, 24, 2, 3, 60, 16, 1, 2, 40)
ENCODER = MAE.encoder_only()
LEARNED = replace(ENCODER, position="learned")
DINOV2 = replace(LEARNED, layer_scale=True, mask_token=True, mlp_hidden=96)
TIMM_REGISTERS = replace(DINOV2, registers=2, prefix_positions=False)
CLIP = replace(
    LEARNED, pre_norm=True, patch_bias=False, activation="quick_gelu", projection=5, eps=1e-5
)
BEIT = replace(ENCODER, position="none", relative="layer", qkv_bias="query_value")
VIDEO = replace(
    ENCODER, position="sinusoid", cls=False, frames=4, tubelet=2, qkv_bias="query_value"
)
SETTINGS = {"mask_ratio": 0.75, "norm_pix": True, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.2)}
# (format, geometry, number of compared activations)
CASES = {
    "mae": ("mae", MAE, 4),
    "mae-eps": ("mae", replace(MAE, eps=1e-3), 4),
    "classifier": ("mae", replace(LEARNED, pool="gap", num_classes=3), 5),
    "timm": ("timm", MAE, 4),
    "timm-wide": ("timm", replace(LEARNED, image_size=(8, 24), mlp_hidden=61), 4),
    "timm-dinov2": ("timm", TIMM_REGISTERS, 4),
    "timm-swiglu": ("timm", replace(DINOV2, mlp="swiglu"), 4),
    "timm-clip": ("timm", CLIP, 4),
    "timm-deit": ("timm", replace(LEARNED, dist_token=True), 4),
    "hf": ("hf", MAE, 6),
    "hf-encoder": ("hf", ENCODER, 4),
    "hf_vit": ("hf_vit", MAE, 4),
    "hf_vit-classifier": ("hf_vit", replace(LEARNED, pool="cls", num_classes=3), 3),
    "hf_deit": ("hf_vit", replace(LEARNED, dist_token=True), 4),
    "hf_dinov2": ("hf_dinov2", DINOV2, 4),
    "hf_dinov2-swiglu": ("hf_dinov2", replace(DINOV2, mlp="swiglu", mlp_hidden=64), 4),
    "hf_registers": ("hf_dinov2", replace(DINOV2, registers=2), 4),
    "hf_clip": ("hf_clip", CLIP, 3),
    "hf_beit": ("hf_beit", replace(BEIT, layer_scale=True, pool="gap", num_classes=3), 3),
    "hf_beit-shared": ("hf_beit", replace(BEIT, layer_scale=True, relative="shared"), 4),
    "hf_videomae": ("hf_videomae", replace(VIDEO, pool="gap", num_classes=3), 3),
}


def random_params(geometry):
    draw = np.random.default_rng(0).normal
    shapes = param_tree(geometry)
    return jax.tree.map(lambda leaf: draw(0, 0.2, leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
@pytest.mark.parametrize("name", CASES)
def test_the_parity_report(name, suffix, tmp_path):
    format, geometry, count = CASES[name]
    if format == "mae" and not suffix and geometry.pool == "none":
        pytest.skip("official MAE files are no folders")
    params = random_params(geometry)
    out = tmp_path / f"exported{suffix}"
    report = export_weights(params, geometry, SETTINGS, format, out)
    parity = check_export(params, report, SETTINGS)
    assert parity.ok, str(parity)
    assert len(parity.rows) == count, str(parity)
    assert "bit for bit" in str(parity) and " ok" in str(parity)
    decoder_left_out = format == "mae" and geometry.has_decoder
    assert ("not run in PyTorch: the decoder" in str(parity)) == decoder_left_out


@pytest.mark.parametrize("format, model", [("hf", "ViTMAEModel"), ("hf_vit", "ViTModel")])
def test_a_folder_needs_no_further_steps_in_transformers(format, model, tmp_path):
    params = random_params(ENCODER)
    out = tmp_path / "hub"
    report = export_weights(params, ENCODER, SETTINGS, format, out)
    theirs, loading = transformers.AutoModel.from_pretrained(out, output_loading_info=True)
    assert type(theirs).__name__ == model
    lost = {key for key in loading["missing_keys"] if "pooler" not in key}
    assert not lost and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    scope = {}
    exec(report.snippet, scope)
    assert type(scope["model"]) is type(theirs)
    processor = transformers.AutoImageProcessor.from_pretrained(out)
    assert list(processor.image_mean) == list(SETTINGS["mean"])
    assert import_weights(out)[1].geometry == ENCODER


@pytest.mark.parametrize("geometry", [ENCODER, replace(LEARNED, pool="gap", num_classes=3)])
def test_a_folder_needs_no_further_steps_in_timm(geometry, tmp_path):
    params = random_params(geometry)
    report = export_weights(params, geometry, SETTINGS, "timm", tmp_path / "local")
    scope = {}
    exec(report.snippet, scope)
    model = scope["model"].eval()
    assert model.num_classes == geometry.num_classes
    assert list(model.pretrained_cfg["mean"]) == list(SETTINGS["mean"])
    images = images_for(geometry)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(images))[:, 1:].numpy()
    np.testing.assert_allclose(ours(geometry, params, images)[0]["tokens"], tokens, atol=1e-4)


@pytest.mark.parametrize("classes", [0, 7])
def test_a_file_of_an_encoder_overlays_a_model_of_timm(classes, tmp_path):
    """The way timm fine-tunes: a known architecture, our file, a new head."""
    geometry = Geometry((224, 224), 16, 3, 192, 12, 3, 768)
    params = random_params(geometry)
    out = tmp_path / "encoder.safetensors"
    export_weights(params, geometry, SETTINGS, "timm", out)
    model = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=True,
        num_classes=classes,
        pretrained_cfg_overlay={"file": str(out), "num_classes": 0, "custom_load": False},
    )
    weight = model.blocks[11].mlp.fc1.weight.detach().numpy()
    np.testing.assert_array_equal(weight, params["encoder"]["blocks"]["mlp"]["fc1"]["kernel"][11].T)


def test_timm_converts_official_dinov2_with_registers(tmp_path):
    geometry = replace(DINOV2, registers=2)
    params = random_params(geometry)
    out = tmp_path / "dinov2.safetensors"
    export_weights(params, geometry, SETTINGS, "dinov2", out)
    model = timm.create_model(
        "vit_base_patch14_reg4_dinov2",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(out)},
        **hub_config.timm_arguments(replace(geometry, prefix_positions=False)),
    ).eval()
    images = images_for(geometry)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(images))[:, 3:].numpy()
    np.testing.assert_allclose(ours(geometry, params, images)[0]["tokens"], tokens, atol=1e-4)


def test_a_wrong_file_is_seen(tmp_path, monkeypatch):
    params = random_params(ENCODER)
    report = export_weights(params, ENCODER, SETTINGS, "timm", tmp_path / "w.safetensors")
    other = random_params(ENCODER)
    other["encoder"]["norm"]["bias"] += 1
    parity = check_export(other, report, SETTINGS)
    assert not parity.ok and parity.reread == ("encoder/norm/bias",)
    arguments = hub_config.timm_arguments
    monkeypatch.setattr(hub_config, "timm_arguments", lambda g: {**arguments(g), "num_heads": 6})
    parity = check_export(params, report, SETTINGS)
    assert not parity.ok and not parity.reread and "DIFFERS" in str(parity)
