"""Official CroCo files, v1 (sin-cos positions, whose two tables are stored) and v2 (rotary)."""

from maskjax.interop.layouts.parts import (
    TIMM_BLOCK,
    BlockNames,
    attention,
    encoder_blocks,
    linear,
    norm,
    patch_embed,
    position,
    sincos,
    token,
)
from maskjax.interop.rules import Layout
from maskjax.interop.transforms import IDENTITY
from maskjax.nn.geometry import Geometry

CROSS = BlockNames("", ("projq", "projk", "projv"), "proj", "", "", "")


def rules(geometry: Geometry, decoder_dim: int) -> Layout:
    """Rules of the whole network, from the geometry of its encoder and the decoder's width."""
    g, theirs = geometry, "dec_blocks.{i}"
    table = sincos("dec_pos_embed", g.grid, decoder_dim, False, transform=IDENTITY)
    norms = ("norm1", "norm2", "norm3", "norm_y")
    return (
        *patch_embed("encoder/patch_embed", "patch_embed.proj", g),
        *position("enc_pos_embed", g, IDENTITY),
        *(() if g.rotary else (table,)),
        *encoder_blocks("enc_blocks.{i}", TIMM_BLOCK, g),
        *norm("encoder/norm", "enc_norm"),
        token("decoder/mask_token", "mask_token"),
        *linear("decoder/embed", "decoder_embed"),
        *(rule for name in norms for rule in norm(f"decoder/blocks/{name}", f"{theirs}.{name}")),
        *attention("decoder/blocks/attn", theirs, TIMM_BLOCK),
        *attention("decoder/blocks/cross_attn", f"{theirs}.cross_attn", CROSS),
        *linear("decoder/blocks/mlp/fc1", f"{theirs}.mlp.fc1"),
        *linear("decoder/blocks/mlp/fc2", f"{theirs}.mlp.fc2"),
        *norm("decoder/norm", "dec_norm"),
        *linear("head", "prediction_head"),
    )
