"""ConvNeXt: official names (SparK's backbones have them) and timm's.

Our tree is that of `MaskedConvNeXt.init`: {"params": ...}.
"""

from dataclasses import dataclass

from maskjax.interop.layouts.parts import linear, norm
from maskjax.interop.layouts.resnet import CONV
from maskjax.interop.rules import Layout, Rule
from maskjax.nn.families import ConvNeXtGeometry


@dataclass(frozen=True)
class Names:
    """What a layout calls the parts; "{s}" is the number of a stage from 0, "{b}" of a block.

    Attributes:
        stem, stem_norm: The first convolution and its norm.
        down_norm, down: In front of a later stage.
        block: In front of the names of ``inner``.
        inner: Of a block: convolution, norm, both layers of the MLP, channel factors.
        norm, head: After pooling.
    """

    stem: str
    stem_norm: str
    down_norm: str
    down: str
    block: str
    inner: tuple[str, str, str, str, str]
    norm: str
    head: str


OFFICIAL = Names(
    "downsample_layers.0.0",
    "downsample_layers.0.1",
    "downsample_layers.{s}.0",
    "downsample_layers.{s}.1",
    "stages.{s}.{b}",
    ("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
    "norm",
    "head",
)
TIMM = Names(
    "stem.0",
    "stem.1",
    "stages.{s}.downsample.0",
    "stages.{s}.downsample.1",
    "stages.{s}.blocks.{b}",
    ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
    "head.norm",
    "head.fc",
)


def rules_official(geometry: ConvNeXtGeometry) -> Layout:
    """Official files, and the backbones that SparK's code saves."""
    return rules(geometry)


def rules_timm(geometry: ConvNeXtGeometry) -> Layout:
    """timm's `ConvNeXt`; a model without final norm lacks timm's ``head.norm``."""
    return rules(geometry, TIMM)


def rules(g: ConvNeXtGeometry, names: Names = OFFICIAL, prefix: str = "") -> Layout:
    """Rules of all layers; ``prefix`` is in front of their keys ("sparse_encoder.sp_cnn.")."""
    ours = "params"
    lines = [*_conv(f"{ours}/stem", prefix + names.stem)]
    lines += norm(f"{ours}/stem_norm", prefix + names.stem_norm)
    for stage, number in enumerate(g.blocks):
        at = lambda name, s=stage: prefix + name.replace("{s}", str(s))  # noqa: E731
        if stage:
            lines += norm(f"{ours}/down{stage + 1}_norm", at(names.down_norm))
            lines += _conv(f"{ours}/down{stage + 1}", at(names.down))
        for i in range(number):
            block = at(names.block).replace("{b}", str(i))
            lines += _block(f"{ours}/stage{stage + 1}_{i}", block, names, g.layer_scale)
    if g.final_norm:
        lines += norm(f"{ours}/norm", prefix + names.norm)
    if g.num_classes:
        lines += linear(f"{ours}/head", prefix + names.head)
    return tuple(lines)


def _block(ours: str, theirs: str, names: Names, layer_scale: bool) -> Layout:
    conv, before, fc1, fc2, scale = (f"{theirs}.{name}" for name in names.inner)
    lines = (
        *_conv(f"{ours}/dwconv", conv),
        *norm(f"{ours}/norm", before),
        *linear(f"{ours}/mlp/fc1", fc1),
        *linear(f"{ours}/mlp/fc2", fc2),
    )
    return (*lines, Rule(f"{ours}/scale", scale)) if layer_scale else lines


def _conv(ours: str, theirs: str) -> Layout:
    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", CONV),
        Rule(f"{ours}/bias", f"{theirs}.bias"),
    )
