"""SimMIM's files: the Swin's names in three codes, the pixel decoder, trees for fine-tuning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from interop_trees import random_tree

from maskjax.errors import UserError
from maskjax.interop import Geometry, export_weights, import_weights
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.files import read
from maskjax.interop.finetune import finetuned_swin, finetuned_vit
from maskjax.interop.layouts import swin
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.method import build_method
from maskjax.nn.swin import SwinEncoder, SwinSize
from maskjax.nn.teacher_vit import TeacherViT

PRETRAINED = Geometry(
    (8, 12),
    4,
    3,
    dim=8,
    depth=2,
    heads=2,
    mlp_hidden=12,
    position="none",
    relative="shared",
    qkv_bias="query_value",
    layer_scale=True,
    mask_token=True,
    pixel_head=True,
)
BATCH = tiny.batch(2, size=(16, 16))
SWIN = {
    "image_size": (16, 16),
    "patch_size": 2,
    "backbone": "swin",
    "swin": {"dim": 8, "depths": (2, 1), "heads": (2, 4), "window": 2, "mlp_ratio": 2.0},
    "mask_cell": 4,
    "norm_eps": 1e-5,
}


@pytest.fixture(scope="module")
def swin_tree():
    return jax.tree.map(np.asarray, tiny.params(build_method("mim.simmim", SWIN, BATCH), BATCH))


NAMES = {
    "official": (
        {},
        {
            "encoder.patch_embed.norm.weight": (8,),
            "encoder.mask_token": (1, 1, 8),
            "encoder.layers.0.blocks.1.attn.qkv.weight": (24, 8),
            "encoder.layers.0.blocks.1.attn.relative_position_bias_table": (9, 2),
            "encoder.layers.0.downsample.reduction.weight": (16, 32),
            "encoder.layers.1.blocks.0.mlp.fc1.bias": (32,),
            "decoder.0.weight": (48, 16, 1, 1),
        },
    ),
    "timm": (
        {"names": swin.TIMM, "prefix": "", "mask_token": False, "decoder": False},
        {"layers.1.downsample.reduction.weight": (16, 32), "norm.weight": (16,)},
    ),
    "hf": (
        {"names": swin.HF, "prefix": "swin."},
        {
            "swin.embeddings.mask_token": (1, 1, 8),
            "swin.encoder.layers.0.blocks.1.attention.self.key.weight": (8, 8),
            "swin.encoder.layers.0.downsample.norm.bias": (32,),
            "swin.layernorm.weight": (16,),
            "decoder.0.bias": (48,),
        },
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_swin_in_the_names_of_other_codes(name, swin_tree):
    options, expected = NAMES[name]
    tree = swin_tree
    if name == "timm":
        encoder = {k: v for k, v in tree["encoder"].items() if k != "mask_token"}
        tree = {"encoder": encoder}
    rules = swin.rules((2, 2), 2, 3, **options)
    arrays = to_torch(tree, rules)
    assert expected.items() <= {key: array.shape for key, array in arrays.items()}.items()
    arrays["encoder.layers.0.blocks.1.attn_mask"] = np.zeros(1)
    back = from_torch(arrays, rules, tree, allow_unused=swin.UNUSED)
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_official_vit_files_hold_the_decoder(tmp_path):
    tree = random_tree(PRETRAINED)
    for what, num in (("full", 2), ("encoder", 0)):
        path = tmp_path / f"{what}.safetensors"
        report = export_weights(tree, PRETRAINED, {}, "simmim", path, what)
        assert len([key for key in read(path)[0] if key.startswith("decoder.0.")]) == num
        found, _ = import_weights(path)
        assert set(flatten(found)) == set(param_shapes(report.geometry))
    whole, _ = import_weights(tmp_path / "full.safetensors")
    jax.tree.map(np.testing.assert_array_equal, whole, tree)


def finetuning(**changes):
    fields = {"mask_token": False, "pixel_head": False, "relative": "layer"}
    return Geometry(**{**vars(PRETRAINED), **fields, **changes})


def test_fine_tuning_starts_with_what_pretraining_ended_with():
    tree, new = random_tree(PRETRAINED), finetuning()
    found = finetuned_vit(tree, PRETRAINED, new)
    shapes = {path: leaf.shape for path, leaf in flatten(found).items()}
    assert shapes == param_shapes(new)
    patches = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 48)), jnp.float32)
    before, after = (
        TeacherViT(geometry).apply({"params": params}, patches)[0]["tokens"]
        for geometry, params in ((PRETRAINED, tree), (new, found))
    )
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)


def test_fine_tuning_at_another_size_with_pooling():
    tree = random_tree(PRETRAINED)
    new = finetuning(image_size=(12, 16), pool="gap", num_classes=3)
    found = finetuned_vit(tree, PRETRAINED, new)
    there = {path: leaf.shape for path, leaf in flatten(found).items()}
    missing = param_shapes(new).items() - there.items()
    assert {path.split("/")[0] for path, _ in missing} == {"fc_norm", "head"}
    assert not there.items() - param_shapes(new).items()
    tables = found["encoder"]["blocks"]["relative"]
    assert tables.shape == (2, 5 * 7 + 3, 2)
    np.testing.assert_array_equal(tables[:, -3:], np.stack([tree["encoder"]["relative"][-3:]] * 2))
    with pytest.raises(UserError, match=r"differ in depth: 2, 3"):
        finetuned_vit(tree, PRETRAINED, finetuning(depth=3))
    with pytest.raises(UserError, match="'shared', then 'layer'"):
        finetuned_vit(tree, PRETRAINED, PRETRAINED)


def test_a_swin_with_other_windows(swin_tree):
    found = finetuned_swin(swin_tree, (2, 2), (4, 4))
    assert found["encoder"]["stage0"]["blocks"]["relative"].shape == (2, 49, 2)
    assert set(found["encoder"]) == set(swin_tree["encoder"]) - {"mask_token"}
    # Offsets near zero keep their values.
    old, new = (t["encoder"]["stage0"]["blocks"]["relative"] for t in (swin_tree, found))
    np.testing.assert_allclose(new[:, 24], old[:, 4], rtol=1e-5)
    module = SwinEncoder(SwinSize(8, (2, 1), (2, 4), 4, 2.0), (8, 8), 12)
    patches = jnp.zeros((1, 64, 12))
    assert module.apply({"params": found["encoder"]}, patches)[0].shape == (1, 16, 16)
    with pytest.raises(UserError, match="has 2 stages, the windows 1 and 1"):
        finetuned_swin(swin_tree, (2,), (4,))
