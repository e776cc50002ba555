"""Official ConvMAE and MR-MCMAE files: convolutions, transformer and decoder.

Both position tables are stored there but fixed. 1 x 1 convolutions there are linear layers here.
"""

from maskjax.interop.layouts.parts import (
    TIMM_BLOCK,
    block_stack,
    linear,
    norm,
    sincos,
    token,
)
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import CONV, rearranged

POINTWISE = rearranged("1 x 1 convolution", "i o", "o i 1 1")


def rules(depths: tuple[int, int], grid: tuple[int, int], dim: int, decoder_dim: int = 0) -> Layout:
    """Rules of a pretraining file.

    Args:
        depths: blocks of the two stages of convolutions.
        grid: (rows, columns) of the last stage.
        dim: its width.
        decoder_dim: the decoder's; 0 = only the encoder.
    """
    lines = [sincos("pos_embed", grid, dim, False)]
    for stage in (1, 2, 3):
        lines += _conv(f"encoder/embed{stage}/proj", f"patch_embed{stage}.proj")
        lines += norm(f"encoder/embed{stage}/norm", f"patch_embed{stage}.norm")
    for stage, depth in enumerate(depths[:2], 1):
        for i in range(depth):
            lines += _block(f"encoder/stage{stage}_{i}", f"blocks{stage}.{i}")
        lines += _conv(f"encoder/fuse{stage}", f"stage{stage}_output_decode")
    lines += linear("encoder/embed4", "patch_embed4")
    lines += block_stack("encoder/blocks", "blocks3.{i}", TIMM_BLOCK)
    lines += norm("encoder/norm", "norm")
    return (*lines, *(_decoder(grid, decoder_dim) if decoder_dim else ()))


def _decoder(grid: tuple[int, int], dim: int) -> Layout:
    return (
        sincos("decoder_pos_embed", grid, dim, False),
        token("decoder/mask_token", "mask_token"),
        *linear("decoder/embed", "decoder_embed"),
        *block_stack("decoder/blocks", "decoder_blocks.{i}", TIMM_BLOCK),
        *norm("decoder/norm", "decoder_norm"),
        *linear("decoder/pred", "decoder_pred"),
    )


def _block(ours: str, theirs: str) -> Layout:
    pointwise = (
        ("conv1", "conv1"),
        ("conv2", "conv2"),
        ("mlp/fc1", "mlp.fc1"),
        ("mlp/fc2", "mlp.fc2"),
    )
    return (
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
        *_conv(f"{ours}/dwconv", f"{theirs}.attn"),
        *(rule for a, b in pointwise for rule in _conv(f"{ours}/{a}", f"{theirs}.{b}", POINTWISE)),
    )


def _conv(ours: str, theirs: str, kernel=CONV) -> Layout:
    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", kernel),
        Rule(f"{ours}/bias", f"{theirs}.bias"),
    )
