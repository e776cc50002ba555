"""mmpretrain's MAE, the layout of official ColorMAE: a backbone, and a neck that is the decoder.

Both position tables are stored there but fixed, with the row in the first half of the channels,
where the original MAE has the column: the geometry says "sincos_rows" for such weights.
"""

from maskjax.errors import UserError
from maskjax.interop.layouts.parts import (
    BlockNames,
    block_stack,
    decoder_table,
    encoder_blocks,
    linear,
    norm,
    patch_embed,
    position,
    prefix_tokens,
    require_options,
    token,
)
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry

BLOCK = BlockNames(
    "ln1", "attn.qkv", "attn.proj", "ln2", "ffn.layers.0.0", "ffn.layers.1", scales=()
)


def rules(geometry: Geometry) -> Layout:
    """Rules of the encoder with its final norm, and of the decoder when the geometry has one.

    Raises:
        UserError: The model has what MAE has not.
    """
    require_options("mmpretrain", geometry, (), "use layout timm.")
    g = geometry
    if g.pool != "none":
        raise UserError("layout mmpretrain: holds pretrained models, no classifier; use timm.")
    return (
        *prefix_tokens(g, {"cls_token": "backbone.cls_token"}),
        *position("backbone.pos_embed", g),
        *patch_embed("encoder/patch_embed", "backbone.patch_embed.projection", g),
        *encoder_blocks("backbone.layers.{i}", BLOCK, g),
        *norm("encoder/norm", "backbone.ln1"),
        *(_decoder(g) if g.has_decoder else ()),
    )


def _decoder(geometry: Geometry) -> Layout:
    return (
        token("decoder/mask_token", "neck.mask_token"),
        decoder_table("neck.decoder_pos_embed", geometry),
        *linear("decoder/embed", "neck.decoder_embed"),
        *block_stack("decoder/blocks", "neck.decoder_blocks.{i}", BLOCK),
        *norm("decoder/norm", "neck.ln1"),
        *linear("decoder/pred", "neck.decoder_pred"),
    )
