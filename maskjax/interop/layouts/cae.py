"""Official CAE pretraining files: encoder, regressor ("regresser" there), decoder.

They also hold the encoder a second time, as `alignment_encoder`, which is a copy made anew at every
step; ours do not.
"""

from maskjax.interop.layouts import beit
from maskjax.interop.layouts.parts import BlockNames, attention, linear, norm, sincos, token
from maskjax.interop.rules import Layout, Rule
from maskjax.nn.geometry import Geometry

UNUSED = ("alignment_encoder.*",)
CROSS_BLOCK = BlockNames(
    "",
    ("cross_attn.q", "cross_attn.k", "cross_attn.v"),
    "cross_attn.proj",
    "norm2_cross",
    "mlp_cross.fc1",
    "mlp_cross.fc2",
    biases=("cross_attn.q_bias", "cross_attn.k_bias", "cross_attn.v_bias"),
    scales=("gamma_1_cross", "gamma_2_cross"),
)


def rules(geometry: Geometry, decoder_dim: int) -> Layout:
    """Rules of all networks.

    Args:
        geometry: of the encoder.
        decoder_dim: width of regressor and decoder.
    """
    regressor, cross = "regressor/blocks", "regresser.regressor_blocks.{i}"
    decoder, blocks = "decoder/blocks", "decoder.decoder_blocks.{i}"
    projected = (
        *linear("project", "encoder_to_regresser"),
        *norm("project_norm", "encoder_to_regresser_norm"),
    )
    return (
        *beit.rules_pretraining(geometry),
        *(projected if decoder_dim != geometry.dim else ()),
        token("mask_token", "mask_token"),
        sincos("rd_pos_embed", geometry.grid, decoder_dim, True, "row"),
        *(line for n in "qkv" for line in norm(f"{regressor}/norm1_{n}", f"{cross}.norm1_{n}")),
        *_rest(regressor, cross, CROSS_BLOCK, geometry),
        *norm("regressor/norm", "regresser.norm"),
        *norm(f"{decoder}/norm1", f"{blocks}.norm1"),
        *_rest(decoder, blocks, beit.BLOCK, geometry),
        *norm("decoder/norm", "decoder.norm"),
        *linear("decoder/head", "decoder.head"),
    )


def _rest(ours: str, theirs: str, names: BlockNames, geometry: Geometry) -> Layout:
    """What both kinds of block have, but for the norms before the attention."""
    scales = zip(("ls1", "ls2"), names.scales, strict=True)
    scaled = (Rule(f"{ours}/{name}/scale", f"{theirs}.{key}") for name, key in scales)
    return (
        *attention(f"{ours}/attn", theirs, names, geometry.qkv_bias),
        *norm(f"{ours}/norm2", f"{theirs}.{names.norm2}"),
        *linear(f"{ours}/mlp/fc1", f"{theirs}.{names.fc1}"),
        *linear(f"{ours}/mlp/fc2", f"{theirs}.{names.fc2}"),
        *(scaled if geometry.layer_scale else ()),
    )
