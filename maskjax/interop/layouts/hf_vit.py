"""Hugging Face's encoders: ViT, DeiT, DINOv2 (with registers), BEiT, VideoMAE; names of hub files.

transformers 5 uses other names in memory and converts on load and save; both ways it reads and
writes these. A base model's file has no prefix ("vit."), a classifier's file has.
"""

from dataclasses import replace

from maskjax.interop.layouts.hf import HUB_BLOCK
from maskjax.interop.layouts.parts import (
    BlockNames,
    encoder_blocks,
    head,
    norm,
    patch_embed,
    position,
    prefix_tokens,
    relative,
    require_options,
)
from maskjax.interop.rules import Layout
from maskjax.interop.transforms import ROW, Transform
from maskjax.nn.geometry import Geometry

TABLE_NAME = "relative_position_bias.relative_position_bias_table"
INNER = "attention.attention"
DINOV2_BLOCK = replace(
    HUB_BLOCK,
    norm1="norm1",
    norm2="norm2",
    fc1="mlp.fc1",
    fc2="mlp.fc2",
    scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
    gate="mlp.weights_in",
    gate_out="mlp.weights_out",
)
BEIT_BLOCK = replace(HUB_BLOCK, scales=("lambda_1", "lambda_2"), relative=f"{INNER}.{TABLE_NAME}")
VIDEO_BLOCK = replace(HUB_BLOCK, biases=(f"{INNER}.q_bias", f"{INNER}.k_bias", f"{INNER}.v_bias"))
TOKENS = {
    "cls_token": "cls_token",
    "dist_token": "distillation_token",
    "mask_token": "mask_token",
    "register_tokens": "register_tokens",
}
PLAIN = ("activation", "final_norm", "qkv_bias")


def rules(geometry: Geometry) -> Layout:
    """Rules of ViT, or of DeiT where the model has a distillation token."""
    require_options("hf_vit", geometry, ("dist_token", *PLAIN), "use layout timm.")
    at = "deit." if geometry.dist_token else "vit."
    return _rules(geometry, at, HUB_BLOCK) + head(geometry, "classifier")


def rules_dinov2(geometry: Geometry) -> Layout:
    """Rules of DINOv2."""
    allowed = ("mask_token", "registers", "layer_scale", "mlp", *PLAIN)
    require_options("hf_dinov2", geometry, allowed, "use layout timm.")
    without_head = replace(geometry, pool="none", num_classes=0)
    return _rules(without_head, "", DINOV2_BLOCK, {"mask_token": ROW})


def rules_beit(geometry: Geometry) -> Layout:
    """Rules of BEiT, whose norm of the pooled tokens is in the backbone."""
    allowed = ("mask_token", "relative", "layer_scale", *PLAIN)
    require_options("hf_beit", geometry, allowed, "use layout timm.")
    g, at = geometry, "beit."
    table = relative("encoder/relative", f"{at}encoder.{TABLE_NAME}", g)
    return (
        *_rules(g, at, BEIT_BLOCK),
        *((table,) if g.relative == "shared" else ()),
        *(norm("fc_norm", f"{at}pooler.layernorm") if g.pool == "gap" else ()),
        *head(g, "classifier"),
    )


def rules_videomae(geometry: Geometry) -> Layout:
    """Rules of VideoMAE."""
    require_options("hf_videomae", geometry, ("frames", *PLAIN), "use layout timm.")
    g = geometry
    return (
        *_rules(g, "videomae.", VIDEO_BLOCK),
        *(norm("fc_norm", "fc_norm") if g.pool == "gap" else ()),
        *head(g, "classifier"),
    )


def _rules(
    g: Geometry, at: str, names: BlockNames, transforms: dict[str, Transform] | None = None
) -> Layout:
    inside = f"{at}embeddings"
    tokens = {ours: f"{inside}.{theirs}" for ours, theirs in TOKENS.items()}
    return (
        *prefix_tokens(g, tokens, transforms),
        *position(f"{inside}.position_embeddings", g),
        *patch_embed("encoder/patch_embed", f"{inside}.patch_embeddings.projection", g),
        *encoder_blocks(f"{at}encoder.layer.{{i}}", names, g),
        *(norm("encoder/norm", f"{at}layernorm") if g.has_norm else ()),
    )
