"""Official VideoMAE V2 pretraining files; those of fine-tuning are layout beit's."""

from maskjax.interop.layouts import beit
from maskjax.interop.layouts.parts import attention, linear, norm, token
from maskjax.interop.rules import Layout
from maskjax.nn.geometry import Geometry


def rules(geometry: Geometry) -> Layout:
    """Rules of encoder and decoder, from the geometry of the encoder."""
    ours, theirs = "decoder/blocks", "decoder.blocks.{i}"
    return (
        *beit.rules_pretraining(geometry),
        *linear("decoder/embed", "encoder_to_decoder", bias=False),
        token("decoder/mask_token", "mask_token"),
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *attention(f"{ours}/attn", theirs, beit.BLOCK, "query_value"),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
        *linear(f"{ours}/mlp/fc1", f"{theirs}.mlp.fc1"),
        *linear(f"{ours}/mlp/fc2", f"{theirs}.mlp.fc2"),
        *norm("decoder/norm", "decoder.norm"),
        *linear("decoder/head", "decoder.head"),
    )
