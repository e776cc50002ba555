"""Bottleneck ResNets in the names of torchvision (and timm): running statistics included.

Our tree is that of `MaskedResNet.init`: {"params": ..., "batch_stats": ...}.
"""

from collections.abc import Sequence

from maskjax.interop.layouts.parts import linear
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import CONV
from maskjax.nn.families import ResNetGeometry

# Counters of torch's BatchNorm, of no use here: for `allow_unused`.
UNUSED = ("*num_batches_tracked",)


def rules_of(geometry: ResNetGeometry) -> Layout:
    """Rules of a whole file, with its classifier if there is one."""
    head = "fc" if geometry.num_classes else ""
    return rules(geometry.blocks, shortcuts=geometry.shortcuts, head=head)


def rules(
    blocks: Sequence[int],
    *,
    shortcuts: Sequence[str] | None = None,
    head: str = "fc",
    prefix: str = "",
) -> Layout:
    """Rules of all layers.

    Args:
        blocks: number of blocks of each stage.
        shortcuts: blocks with a convolution in their shortcut, such as "stage1_0"; default the
            first of each stage.
        head: their name of the classifier; "" = none.
        prefix: in front of their keys, such as "sparse_encoder.sp_cnn.".
    """
    if shortcuts is None:
        shortcuts = tuple(f"stage{s}_0" for s in range(1, len(blocks) + 1))
    lines = [*_conv_norm("stem", f"{prefix}conv1", f"{prefix}bn1")]
    for stage, number in enumerate(blocks, 1):
        for i in range(number):
            lines += _block(f"stage{stage}_{i}", f"{prefix}layer{stage}.{i}", shortcuts)
    return (*lines, *(linear("params/head", prefix + head) if head else ()))


def _block(ours: str, theirs: str, shortcuts: Sequence[str]) -> Layout:
    layers = (
        _conv_norm(f"{ours}/layer{i}", f"{theirs}.conv{i}", f"{theirs}.bn{i}") for i in (1, 2, 3)
    )
    lines = tuple(rule for layer in layers for rule in layer)
    if ours not in shortcuts:
        return lines
    shortcut = f"{theirs}.downsample"
    return (*lines, *_conv_norm(f"{ours}/shortcut", f"{shortcut}.0", f"{shortcut}.1"))


def _conv_norm(ours: str, conv: str, norm: str) -> Layout:
    return (
        Rule(f"params/{ours}/conv/kernel", f"{conv}.weight", CONV),
        Rule(f"params/{ours}/bn/scale", f"{norm}.weight"),
        Rule(f"params/{ours}/bn/bias", f"{norm}.bias"),
        Rule(f"batch_stats/{ours}/bn/mean", f"{norm}.running_mean"),
        Rule(f"batch_stats/{ours}/bn/var", f"{norm}.running_var"),
    )
