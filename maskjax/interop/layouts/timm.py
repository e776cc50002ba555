"""timm's ``VisionTransformer``: the encoder of any size, with its final norm or with a classifier.

DeiT's distilled models, DINO, DINOv2 and CLIP are of the same class there. timm trains its position
table, so a fixed table is stored there like a trained one; reading such a file back into a sin-cos
model checks that the table is still the fixed one. timm has no decoder and no mask token. Official
DINOv2 files (``rules_dinov2``) have nearly the same names.
"""

from dataclasses import replace

from maskjax.errors import UserError
from maskjax.interop.layouts.parts import (
    TIMM_BLOCK,
    encoder_blocks,
    head,
    norm,
    patch_embed,
    position,
    prefix_tokens,
    require_options,
)
from maskjax.interop.rules import Layout
from maskjax.interop.transforms import ROW
from maskjax.nn.geometry import Geometry

NAMES = {"cls_token": "cls_token", "dist_token": "dist_token", "register_tokens": "reg_token"}
DINOV2_NAMES = {
    "cls_token": "cls_token",
    "mask_token": "mask_token",
    "register_tokens": "register_tokens",
}
DINOV2_BLOCK = replace(TIMM_BLOCK, gate="mlp.w12", gate_out="mlp.w3")
SHARED = ("layer_scale", "mlp", "registers", "qkv_bias", "final_norm")


def rules(geometry: Geometry) -> Layout:
    """Rules of the encoder and classifier.

    With pool="gap" the mean of the patch tokens goes through ``fc_norm`` and there is no ``norm``
    (timm: ``global_pool="avg"``); else there is ``norm`` (timm: ``global_pool="token"``).

    Raises:
        UserError: The model has what timm's class has not.
    """
    own = ("dist_token", "prefix_positions", "patch_bias", "pre_norm", "activation")
    advice = "layout beit holds relative biases and separate query and value biases."
    require_options("timm", geometry, (*SHARED, *own), advice)
    g = geometry
    if g.registers and g.prefix_positions:
        raise UserError(
            "layout timm: timm gives register tokens positions too, or no token in front; use "
            "layout dinov2, whose files timm converts when it loads them."
        )
    return (
        *prefix_tokens(g, NAMES),
        *position("pos_embed", g),
        *patch_embed("encoder/patch_embed", "patch_embed.proj", g),
        *(norm("encoder/pre_norm", "norm_pre") if g.pre_norm else ()),
        *encoder_blocks("blocks.{i}", TIMM_BLOCK, g),
        *(norm("fc_norm", "fc_norm") if g.pool == "gap" else ()),
        *(norm("encoder/norm", "norm") if g.has_norm else ()),
        *head(g, "head"),
    )


def rules_dinov2(geometry: Geometry) -> Layout:
    """Rules of official DINOv2 files (Oquab et al. 2023), with or without registers.

    Raises:
        UserError: The model is of another kind.
    """
    require_options("dinov2", geometry, (*SHARED, "mask_token"), "use layout timm.")
    g = replace(geometry, pool="none", num_classes=0)
    return (
        *prefix_tokens(g, DINOV2_NAMES, {"mask_token": ROW}),
        *position("pos_embed", g),
        *patch_embed("encoder/patch_embed", "patch_embed.proj", g),
        *encoder_blocks("blocks.{i}", DINOV2_BLOCK, g),
        *(norm("encoder/norm", "norm") if g.has_norm else ()),
    )
