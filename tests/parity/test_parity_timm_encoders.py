"""Live parity with timm's encoders: ViT-Ti/S/B, DeiT, DINOv2, CLIP, BEiT; both directions."""

import functools

import numpy as np
import pytest

reason = "live parity needs PyTorch and timm: `make test-torch`"
torch = pytest.importorskip("torch", reason=reason)
timm = pytest.importorskip("timm", reason=reason)

import jax  # noqa: E402
from torch_models import assert_close, blocks_of, images_for, ours, randomize  # noqa: E402

from maskjax.interop import Geometry, files, import_weights, to_torch  # noqa: E402
from maskjax.interop.layouts import rules_for  # noqa: E402
from maskjax.interop.paths import names_of  # noqa: E402
from maskjax.interop.shapes import param_tree  # noqa: E402

SHAPE = {"image_size": (16, 24), "patch_size": 4, "channels": 2}
SMALL = {"dim": 24, "depth": 2, "heads": 3, "mlp_hidden": 60}
LEARNED = {"position": "learned"}
VIT = timm.models.VisionTransformer
SWIGLU = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
NORM5 = functools.partial(torch.nn.LayerNorm, eps=1e-5)
# name -> (format, geometry, class, arguments)
CASES = {
    "plain": ("timm", {}, VIT, {}),
    "classifier": (
        "timm",
        {"pool": "gap", "num_classes": 5},
        VIT,
        {"num_classes": 5, "global_pool": "avg"},
    ),
    "dinov2": (
        "timm",
        {"layer_scale": True, "registers": 2, "prefix_positions": False},
        VIT,
        {"init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True},
    ),
    "swiglu": (
        "timm",
        {"layer_scale": True, "mlp": "swiglu", "mlp_hidden": 30},
        VIT,
        {"init_values": 1.0, **SWIGLU},
    ),
    "clip": (
        "timm",
        {"pre_norm": True, "activation": "quick_gelu", "patch_bias": False, "eps": 1e-5},
        VIT,
        {"pre_norm": True, "act_layer": timm.layers.QuickGELU, "norm_layer": NORM5},
    ),
    "distilled": ("deit", {"dist_token": True}, timm.models.deit.VisionTransformerDistilled, {}),
    "beit": (
        "beit",
        {
            "position": "none",
            "relative": "layer",
            "qkv_bias": "query_value",
            "layer_scale": True,
            "pool": "gap",
            "num_classes": 5,
        },
        timm.models.beit.Beit,
        {"init_values": 0.1, "num_classes": 5, "global_pool": "avg"},
    ),
}


def make(name: str):
    format, options, cls, arguments = CASES[name]
    geometry = Geometry(**{**SHAPE, **SMALL, **LEARNED, **options})
    sizes = {
        "img_size": SHAPE["image_size"],
        "patch_size": 4,
        "in_chans": 2,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
        "mlp_ratio": 2.5,
        "num_classes": 0,
    }
    norm = {} if cls is not timm.models.beit.Beit else {"use_abs_pos_emb": False}
    if cls is timm.models.beit.Beit:
        norm["use_rel_pos_bias"] = True
    return format, geometry, randomize(cls(**{**sizes, **norm, **arguments}))


def state(model) -> dict:
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def write(model, path):
    files.write(path, state(model), {})
    return path


@pytest.mark.parametrize("name", CASES)
def test_weights_of_timm_and_back(name, tmp_path):
    format, geometry, model = make(name)
    path = write(model, tmp_path / "timm.safetensors")
    params, report = import_weights(path, None, geometry, format, encoder_only=True)
    images = images_for(geometry)
    out, seen = ours(geometry, params, images)
    for i, block in enumerate(blocks_of(model, "blocks", images)):
        assert_close(f"block {i}", seen["block"][i], block)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(images))[:, geometry.prefix_tokens :]
        assert_close("tokens", out["tokens"], tokens)
        if geometry.num_classes:
            assert_close("logits", out["logits"], model(torch.from_numpy(images)))
    # Other weights of ours, in a model of theirs.
    draw = np.random.default_rng(1).normal
    params = jax.tree.map(lambda leaf: np.float32(draw(0, 0.2, leaf.shape)), params)
    ours_out = to_torch(params, rules_for(report.layout, geometry, names_of(state(model))))
    arrays = {key: torch.from_numpy(array) for key, array in ours_out.items()}
    lost = model.load_state_dict(arrays, strict=False)
    assert not lost.unexpected_keys
    assert all(key.endswith(("_index", "k_bias")) or "head" in key for key in lost.missing_keys)
    out, _ = ours(geometry, params, images)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(images))[:, geometry.prefix_tokens :]
    assert_close("tokens of ours", out["tokens"], tokens)


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small", "vit_base"])
def test_published_widths_at_reduced_depth(name, tmp_path):
    model = randomize(timm.create_model(f"{name}_patch16_224", depth=2, num_classes=0), 0.01)
    geometry = Geometry(
        (224, 224),
        16,
        3,
        model.embed_dim,
        2,
        model.blocks[0].attn.num_heads,
        4 * model.embed_dim,
        position="learned",
    )
    params, _ = import_weights(write(model, tmp_path / "w.safetensors"), geometry=geometry)
    images = images_for(geometry, 1)
    out, seen = ours(geometry, params, images, ("block",))
    for i, block in enumerate(blocks_of(model, "blocks", images)):
        assert_close(f"block {i}", seen["block"][i], block)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(images))
    assert_close("cls", out["cls"], tokens[:, 0])


@pytest.mark.parametrize("new", [(32, 48), (8, 16), (20, 12)])
def test_positions_are_resampled_as_timm_does(new, tmp_path):
    square = VIT(img_size=16, patch_size=4, in_chans=2, embed_dim=24, depth=2, num_heads=3)
    path = write(randomize(square), tmp_path / "w.safetensors")
    geometry = Geometry(**{**SHAPE, **SMALL, **LEARNED, "image_size": new, "mlp_hidden": 96})
    params, report = import_weights(path, geometry=geometry, format="timm", encoder_only=True)
    assert any("antialiased (timm)" in note for note in report.notes)
    grid = list(geometry.grid)
    theirs = timm.layers.resample_abs_pos_embed(square.pos_embed, grid, num_prefix_tokens=1)
    assert_close("table", params["encoder"]["pos_embed"], theirs[0])


def test_shapes_are_those_of_the_model():
    _, geometry, model = make("plain")
    arrays = to_torch(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), param_tree(geometry)),
        rules_for("timm", geometry, frozenset()),
    )
    found = {key: tuple(array.shape) for key, array in arrays.items()}
    assert found == {key: tuple(array.shape) for key, array in state(model).items()}
