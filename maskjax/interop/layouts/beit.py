"""BEiT's lineage: BEiT, SimMIM's ViT, CAE's encoder, VideoMAE; official names, timm's too.

Query and value have biases of their own, the key has none; branches have channel factors; relative
biases are a table for each block (fine-tuning) or one shared table (SimMIM's pretraining).
Pretraining files put "encoder." in front of all keys of the encoder.
"""

from dataclasses import replace

from maskjax.interop.layouts.parts import (
    BlockNames,
    encoder_blocks,
    head,
    norm,
    patch_embed,
    pixel_decoder,
    position,
    prefix_tokens,
    relative,
    require_options,
)
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry

BLOCK = BlockNames(
    "norm1",
    "attn.qkv",
    "attn.proj",
    "norm2",
    "mlp.fc1",
    "mlp.fc2",
    biases=("attn.q_bias", "attn.k_bias", "attn.v_bias"),
    scales=("gamma_1", "gamma_2"),
    relative="attn.relative_position_bias_table",
)
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
OPTIONS = ("mask_token", "relative", "qkv_bias", "layer_scale", "frames", "final_norm")


def rules(geometry: Geometry) -> Layout:
    """Rules with no prefix: fine-tuned files, BEiT."""
    return _rules(geometry, "")


def rules_pretraining(geometry: Geometry) -> Layout:
    """Rules of the encoder in pretraining files of SimMIM, CAE, VideoMAE; of SimMIM's decoder."""
    g = geometry
    encoder = _rules(replace(g, pixel_head=False), "encoder.")
    if not g.pixel_head:
        return encoder
    return (*encoder, *pixel_decoder("decoder", "decoder.0", g.patch_size, g.channels))


def _rules(geometry: Geometry, at: str) -> Layout:
    g = geometry
    require_options("beit", g, OPTIONS, "use layout timm.")
    tokens = {"cls_token": f"{at}cls_token", "mask_token": f"{at}mask_token"}
    shared = (relative("encoder/relative", f"{at}{SHARED_TABLE}", g),)
    return (
        *prefix_tokens(g, tokens),
        *position(f"{at}pos_embed", g),
        *patch_embed("encoder/patch_embed", f"{at}patch_embed.proj", g),
        *(shared if g.relative == "shared" else ()),
        *encoder_blocks(f"{at}blocks.{{i}}", _names(g), g),
        *(norm("fc_norm", "fc_norm") if g.pool == "gap" else ()),
        *(norm("encoder/norm", f"{at}norm") if g.has_norm else ()),
        *head(g, "head"),
    )


def _names(geometry: Geometry) -> BlockNames:
    """A model whose key has a bias too stores the three as one."""
    return BLOCK if geometry.qkv_bias == "query_value" else replace(BLOCK, biases=())
