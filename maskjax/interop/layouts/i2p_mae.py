"""Official I2P-MAE files (key "base_model"): pretraining, and the classifiers made of it.

Ours is the tree that `Method.weights` makes of a run: "params" and "batch_stats". The 2-D network
in the files is left out.
"""

from collections.abc import Sequence

import numpy as np

from maskjax.interop.layouts.parts import TIMM_BLOCK, attention, linear, norm
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import ROW, Transform, rearranged

# Counters, and the 2-D network.
UNUSED = ("*num_batches_tracked", "clip_model.*")
CONV1D = rearranged("1 x 1 convolution", "d e", "e d 1")
# The layer over [maximum of the group, point] is two of ours.
HALVES = Transform(
    "1 x 1 convolution in halves",
    lambda whole, point: CONV1D.to_torch(np.concatenate([whole, point])),
    lambda array, whole, point: tuple(
        np.split(CONV1D.from_torch(array, (whole[0] + point[0], whole[1]))[0], [whole[0]])
    ),
)


def rules(num_scales: int, units: Sequence[int]) -> Layout:
    """Rules of a pretraining file.

    Args:
        num_scales: of the encoder; the decoder has one less.
        units: residual units of each step of the decoder.
    """
    lines = [*encoder(num_scales), Rule("params/decoder/mask_token", "mask_token", ROW)]
    for i in range(num_scales - 1):
        lines += _position(f"params/decoder/positions_{i}", f"decoder_pos_embeds.{i}")
        lines += _blocks(f"params/decoder/level{i}_blocks", f"h_decoder.{i}")
    for i, number in enumerate(units):
        ours, theirs = f"decoder/fusions_{i}", f"token_prop.{i}"
        lines += _conv_norm(ours, "fuse", f"{theirs}.fuse.net")
        for unit in range(number):
            for half in (1, 2):
                at = f"{theirs}.extraction.operation.{unit}.net{half}"
                lines += _conv_norm(ours, f"unit{unit}_conv{half}", at)
    lines += norm("params/decoder/norm", "decoder_norm")
    lines += _conv("params/points", "rec_head_3d")
    return (*lines, *_conv("params/semantics", "rec_head_2d"))


def encoder(num_scales: int, *, norms: bool = True) -> Layout:
    """Rules of the encoder, with or without a norm for what leaves each scale."""
    lines: list[Rule] = []
    for i in range(num_scales):
        ours, theirs = f"encoder/embeds_{i}", f"h_encoder.token_embed.{i}"
        lines += _conv(f"params/{ours}/conv1", f"{theirs}.first_conv.0")
        lines += batch_norm(f"{ours}/norm1", f"{theirs}.first_conv.1")
        lines += _conv(f"params/{ours}/conv2", f"{theirs}.first_conv.3")
        halves = tuple(f"params/{ours}/{name}/kernel" for name in ("conv3_group", "conv3"))
        lines.append(Rule(halves, f"{theirs}.second_conv.0.weight", HALVES))
        lines.append(Rule(f"params/{ours}/conv3/bias", f"{theirs}.second_conv.0.bias"))
        lines += batch_norm(f"{ours}/norm2", f"{theirs}.second_conv.1")
        lines += _conv(f"params/{ours}/conv4", f"{theirs}.second_conv.3")
        lines += _position(f"params/encoder/positions_{i}", f"h_encoder.encoder_pos_embeds.{i}")
        lines += _blocks(f"params/encoder/level{i}_blocks", f"h_encoder.encoder_blocks.{i}")
        if norms:
            lines += norm(f"params/encoder/out_norms_{i}", f"h_encoder.encoder_norms.{i}")
    return tuple(lines)


def batch_norm(ours: str, theirs: str) -> Layout:
    """A batch norm: scale and bias of the parameters, mean and var of the statistics."""
    return (
        *norm(f"params/{ours}", theirs),
        Rule(f"batch_stats/{ours}/mean", f"{theirs}.running_mean"),
        Rule(f"batch_stats/{ours}/var", f"{theirs}.running_var"),
    )


def _conv(ours: str, theirs: str) -> Layout:
    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", CONV1D),
        Rule(f"{ours}/bias", f"{theirs}.bias"),
    )


def _conv_norm(ours: str, name: str, theirs: str) -> Layout:
    conv = _conv(f"params/{ours}/{name}", f"{theirs}.0")
    return (*conv, *batch_norm(f"{ours}/{name}_norm", f"{theirs}.1"))


def _position(ours: str, theirs: str) -> Layout:
    return (*linear(f"{ours}/fc1", f"{theirs}.0"), *linear(f"{ours}/fc2", f"{theirs}.2"))


def _blocks(ours: str, theirs: str) -> Layout:
    at = f"{theirs}.blocks.{{i}}"
    return (
        *norm(f"{ours}/norm1", f"{at}.norm1"),
        *attention(f"{ours}/attn", at, TIMM_BLOCK, "none"),
        *norm(f"{ours}/norm2", f"{at}.norm2"),
        *linear(f"{ours}/mlp/fc1", f"{at}.mlp.fc1"),
        *linear(f"{ours}/mlp/fc2", f"{at}.mlp.fc2"),
    )


def rules_classifier(num_scales: int) -> Layout:
    """Rules of a file of a fine-tuned classifier."""
    lines = [*encoder(num_scales, norms=False), *norm("params/norm", "norm")]
    for i, place in enumerate((0, 4, 8)):
        lines += linear(f"params/head/fc{i}", f"cls_head_finetune.{place}")
        if place < 8:
            lines += batch_norm(f"head/norm{i}", f"cls_head_finetune.{place + 1}")
    return tuple(lines)
