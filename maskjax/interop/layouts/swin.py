"""Swin: official files (microsoft/Swin-Transformer, SimMIM), timm's and Hugging Face's names.

`rules_official`, `rules_timm` and `rules_hf` are the formats of a `SwinGeometry`; `rules` also
takes the tree of a SimMIM run, with its decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maskjax.errors import UserError
from maskjax.interop.layouts.parts import (
    TIMM_BLOCK,
    BlockNames,
    block_stack,
    linear,
    norm,
    pixel_decoder,
    token,
)
from maskjax.interop.rules import Layout, Resize, Rule
from maskjax.interop.transforms import IDENTITY, LINEAR, patch_conv
from maskjax.nn.families import SwinGeometry

# What files hold that is computed, for `allow_unused`.
UNUSED = ("*relative_position_index", "*attn_mask")
TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class Names:
    """What a layout calls the parts of a Swin; "{s}" is the number of a stage, "{i}" of a block.

    Attributes:
        embed, embed_norm, mask_token, norm: Ends of the encoder.
        block: In front of the names of ``inner``.
        merge: In front of the "norm" and "reduction" between two stages.
        inner: Of a block.
        merge_first: Stage s + 1 holds the merging after stage s (timm).
    """

    embed: str
    embed_norm: str
    mask_token: str
    norm: str
    block: str
    merge: str
    inner: BlockNames
    merge_first: bool = False


OFFICIAL = Names(
    "patch_embed.proj",
    "patch_embed.norm",
    "mask_token",
    "norm",
    "layers.{s}.blocks.{i}",
    "layers.{s}.downsample",
    replace(TIMM_BLOCK, relative=f"attn.{TABLE}"),
)
TIMM = replace(OFFICIAL, merge_first=True)
SELF = "attention.self"
HF = Names(
    "embeddings.patch_embeddings.projection",
    "embeddings.norm",
    "embeddings.mask_token",
    "layernorm",
    "encoder.layers.{s}.blocks.{i}",
    "encoder.layers.{s}.downsample",
    BlockNames(
        "layernorm_before",
        (f"{SELF}.query", f"{SELF}.key", f"{SELF}.value"),
        "attention.output.dense",
        "layernorm_after",
        "intermediate.dense",
        "output.dense",
        relative=f"{SELF}.{TABLE}",
    ),
)


def rules_official(geometry: SwinGeometry) -> Layout:
    """Official files; with a mask token SimMIM's pretraining files."""
    return _rules(geometry, OFFICIAL, "encoder." if geometry.mask_token else "", "head")


def rules_timm(geometry: SwinGeometry) -> Layout:
    """timm's `SwinTransformer`.

    Raises:
        UserError: It has no mask token, and cuts other windows than the official code where a grid
            is wider than the windows on one side only.
    """
    if any(min(grid) <= geometry.window < max(grid) for grid in geometry.grids):
        raise UserError(
            f"layout timm_swin: on the grids {geometry.grids} timm's windows of {geometry.window} "
            "are others than the official code's; use format swin or hf_swin."
        )
    if geometry.mask_token:
        raise UserError("layout timm_swin: timm's Swin has no mask token; use format swin.")
    return _rules(geometry, TIMM, "", "head.fc")


def rules_hf(geometry: SwinGeometry) -> Layout:
    """`SwinModel`; with a head `SwinForImageClassification` or `SwinForMaskedImageModeling`."""
    if geometry.eps != 1e-5:
        raise UserError(
            f"layout hf_swin: eps={geometry.eps:g}; transformers has 1e-05 in patches and merges"
            " whatever its config says; use format swin."
        )
    head = geometry.num_classes or geometry.pixel_head
    return _rules(geometry, HF, "swin." if head else "", "classifier")


def _rules(g: SwinGeometry, names: Names, prefix: str, head: str) -> Layout:
    options = {"names": names, "prefix": prefix}
    options |= {"mask_token": g.mask_token, "decoder": g.pixel_head}
    encoder = rules(g.sides, g.patch_size, g.channels, **options)
    return (*encoder, *(linear("head", head) if g.num_classes else ()))


def rules(
    sides: Sequence[int],
    patch_size: int,
    channels: int,
    *,
    names: Names = OFFICIAL,
    prefix: str = "encoder.",
    mask_token: bool = True,
    decoder: bool = True,
) -> Layout:
    """Rules of a Swin whose tree is that of SimMIM: "encoder/...", "decoder/...".

    Args:
        sides: Side of the windows of each stage, in tokens (`nn.swin_block.window_of`).
        patch_size: Side of a patch in pixels.
        channels: Image channels.
        names: OFFICIAL, TIMM or HF.
        prefix: In front of the encoder's keys: "encoder." in SimMIM's pretraining files, "" in
            fine-tuned and timm's, "swin." in Hugging Face's.
        mask_token, decoder: Whether the tree has them.
    """
    embed = patch_conv(patch_size, channels)
    lines: list[Rule] = [
        Rule("encoder/patch_embed/kernel", f"{prefix}{names.embed}.weight", embed),
        Rule("encoder/patch_embed/bias", f"{prefix}{names.embed}.bias"),
        *norm("encoder/patch_norm", prefix + names.embed_norm),
        *norm("encoder/norm", prefix + names.norm),
    ]
    if mask_token:
        lines.append(token("encoder/mask_token", prefix + names.mask_token))
    for stage, side in enumerate(sides):
        lines += _blocks(stage, side, names, prefix)
        if stage < len(sides) - 1:
            at = prefix + names.merge.replace("{s}", str(stage + names.merge_first))
            lines += norm(f"encoder/stage{stage}/merge/norm", f"{at}.norm")
            reduction = f"encoder/stage{stage}/merge/reduction/kernel"
            lines.append(Rule(reduction, f"{at}.reduction.weight", LINEAR))
    if decoder:
        stride = patch_size * 2 ** (len(sides) - 1)
        lines += pixel_decoder("decoder", "decoder.0", stride, channels)
    return tuple(lines)


def _blocks(stage: int, side: int, names: Names, prefix: str) -> Layout:
    ours, theirs = f"encoder/stage{stage}/blocks", prefix + names.block.replace("{s}", str(stage))
    table = Resize("relative", (side, side), 0)
    return (
        *block_stack(ours, theirs, names.inner),
        Rule(f"{ours}/relative", f"{theirs}.{names.inner.relative}", IDENTITY, table),
    )
