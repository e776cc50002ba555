"""Official CRATE-MAE files. `layers.0.0` is MSSA in the encoder and the linear map in the decoder.

The official module also holds a second position table and a `decoder_embed` that it never uses;
files may have them, ours do not.
"""

from maskjax.interop.layouts.parts import linear, norm, sincos, token
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import HEAD_KERNEL, OUT_KERNEL, patch_conv

UNUSED = ("pos_embed", "decoder_embed.*")


def rules(grid: tuple[int, int], dim: int, heads: int, patch_size: int, channels: int) -> Layout:
    """Rules of the whole autoencoder."""
    encoder, decoder = "blocks.{i}.layers.0", "decoder_blocks.{i}.layers.0"
    return (
        token("cls_token", "cls_token"),
        token("mask_token", "mask_token"),
        sincos("decoder_pos_embed", grid, dim, True),
        Rule("patch_embed/kernel", "patch_embed.proj.weight", patch_conv(patch_size, channels)),
        Rule("patch_embed/bias", "patch_embed.proj.bias"),
        *_attention("blocks", f"{encoder}.0", "norm1", heads),
        *norm("blocks/norm2", f"{encoder}.1.norm"),
        Rule("blocks/ista/dictionary", f"{encoder}.1.fn.weight"),
        *norm("norm", "norm"),
        *norm("decoder_blocks/norm1", f"{decoder}.0.norm"),
        Rule("decoder_blocks/dictionary", f"{decoder}.0.fn.weight"),
        *_attention("decoder_blocks", f"{decoder}.1", "norm2", heads),
        *norm("decoder_norm", "decoder_norm"),
        *linear("pred", "decoder_pred"),
    )


def _attention(ours: str, theirs: str, own_norm: str, heads: int) -> Layout:
    out = (
        Rule(f"{ours}/attn/out/kernel", f"{theirs}.fn.to_out.0.weight", OUT_KERNEL),
        Rule(f"{ours}/attn/out/bias", f"{theirs}.fn.to_out.0.bias"),
    )
    return (
        *norm(f"{ours}/{own_norm}", f"{theirs}.norm"),
        Rule(f"{ours}/attn/subspace/kernel", f"{theirs}.fn.qkv.weight", HEAD_KERNEL),
        *(out if heads > 1 else ()),
    )
