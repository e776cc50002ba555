"""Live parity with the encoders of transformers: their folders in, every block compared."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

reason = "live parity needs PyTorch and transformers: `make test-torch`"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

from torch_models import assert_close, images_for, ours, randomize  # noqa: E402

import maskjax  # noqa: E402
from maskjax.interop import import_weights  # noqa: E402
from maskjax.interop.hf_config import geometry_of  # noqa: E402
from maskjax.nn.position import sincos_2d  # noqa: E402

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 16,
    "patch_size": 4,
}
MLP = {**SIZES, "intermediate_size": 40}
SQUARE = {**SIZES, "image_size": 20, "patch_size": 10, "num_channels": 1}
# name -> (class, config class, entries)
CASES = {
    "vit": ("ViTModel", "ViTConfig", MLP),
    "vit-classifier": ("ViTForImageClassification", "ViTConfig", {**MLP, "num_labels": 3}),
    "vit-no-bias": ("ViTModel", "ViTConfig", {**MLP, "qkv_bias": False}),
    "deit": ("DeiTModel", "DeiTConfig", MLP),
    "dinov2": ("Dinov2Model", "Dinov2Config", SIZES),
    "dinov2-swiglu": ("Dinov2Model", "Dinov2Config", {**SQUARE, "use_swiglu_ffn": True}),
    "registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**SIZES, "num_register_tokens": 3},
    ),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", MLP),
    "clip-projection": (
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        {**MLP, "projection_dim": 10},
    ),
    "beit": ("BeitModel", "BeitConfig", {**MLP, "use_relative_position_bias": True}),
    "beit-shared": (
        "BeitModel",
        "BeitConfig",
        {
            **MLP,
            "use_shared_relative_position_bias": True,
            "use_mask_token": True,
            "use_mean_pooling": False,
        },
    ),
    "beit-classifier": (
        "BeitForImageClassification",
        "BeitConfig",
        {**MLP, "use_relative_position_bias": True, "num_labels": 4},
    ),
    "videomae": ("VideoMAEModel", "VideoMAEConfig", {**MLP, "num_frames": 4}),
    "videomae-classifier": (
        "VideoMAEForVideoClassification",
        "VideoMAEConfig",
        {**MLP, "num_frames": 4, "num_labels": 3, "use_mean_pooling": True},
    ),
    "vit-mae": ("ViTMAEModel", "ViTMAEConfig", {**MLP, "mask_ratio": 0.0}),
}


def make(name: str):
    model, config, entries = CASES[name]
    config = getattr(transformers, config)(**entries, attn_implementation="eager")
    model = randomize(getattr(transformers, model)(config))
    if name == "vit-mae":  # the table is fixed, but transformers 5 does not always fill it in
        table = torch.from_numpy(sincos_2d((4, 4), 24, cls=True).copy())
        model.embeddings.position_embeddings.data.copy_(table[None])
    return model


@pytest.mark.parametrize("name", CASES)
def test_their_folder(name, tmp_path):
    model = make(name)
    model.save_pretrained(tmp_path)
    params, report = import_weights(tmp_path, encoder_only=True)
    geometry = report.geometry
    images = images_for(geometry)
    out, seen = ours(geometry, params, images)
    options = {"noise": torch.arange(16.0)[None].repeat(2, 1)} if name == "vit-mae" else {}
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(images),
            output_hidden_states=True,
            output_attentions=True,
            **options,
        )
    hidden = theirs.hidden_states
    assert len(hidden) == geometry.depth + 1
    assert_close("input", seen["input"], hidden[0])
    for i in range(geometry.depth):
        assert_close(f"block {i}", seen["block"][i], hidden[i + 1])
    assert_close("attention", seen["attention/-1"], theirs.attentions[-1])
    if "projection" in out:
        assert_close("projection", out["projection"], theirs.image_embeds)
    elif "logits" in out:
        assert_close("logits", out["logits"], theirs.logits)
    elif name == "clip":
        assert_close("pooled", out["cls"], theirs.pooler_output)
    elif name == "beit":
        assert_close("pooled", out["features"], theirs.pooler_output)
    else:
        last = theirs.last_hidden_state[:, geometry.prefix_tokens :]
        assert_close("tokens", out["tokens"], last)


@pytest.mark.parametrize("name", ["clip", "videomae", "registers"])
def test_features_of_their_folder(name, tmp_path):
    """`maskjax.load` on a folder of the hub, with what its image processor says of pixels."""
    model = make(name)
    model.save_pretrained(tmp_path)
    stats = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stats))
    predict, params, metadata = maskjax.load(tmp_path)
    assert metadata["mean"] == (0.5, 0.4, 0.3)
    shape = images_for(metadata["geometry"]).shape
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = predict["encode"](params, np.moveaxis(pixels, -3, -1))
    column = lambda values: torch.tensor(values)[:, None, None]  # noqa: E731
    images = torch.from_numpy(pixels) / 255
    with torch.no_grad():
        out = model((images - column(stats["image_mean"])) / column(stats["image_std"]))
    if name == "clip":
        assert_close("cls", found["cls"], out.pooler_output)
    else:
        first = metadata["geometry"].prefix_tokens
        assert_close("tokens", found["tokens"], out.last_hidden_state[:, first:])


@pytest.mark.parametrize("shape", [(20, 20), (12, 28), (8, 40)])
def test_learned_positions_of_another_grid(shape, tmp_path):
    """Resampled at import as transformers does in every forward pass."""
    model = make("vit")
    model.save_pretrained(tmp_path)
    geometry = replace(geometry_of(model.config.to_dict()), image_size=shape)
    params, report = import_weights(tmp_path, geometry=geometry, encoder_only=True)
    assert any("resampled from 4x4" in note for note in report.notes)
    images = images_for(geometry)
    out, _ = ours(geometry, params, images)
    with torch.no_grad():
        theirs = model(torch.from_numpy(images), interpolate_pos_encoding=True)
    assert_close("tokens", out["tokens"], theirs.last_hidden_state[:, 1:])


def test_shards_of_a_folder(tmp_path):
    model = make("dinov2")
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    model.save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    params, _ = import_weights(tmp_path / "shards")
    whole, _ = import_weights(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, params, whole)
