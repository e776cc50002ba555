"""Convnets by config that can run on a visible region: ResNet, ConvNeXt."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array
from ml_collections import ConfigDict

from maskjax import options
from maskjax.method import Tree, require
from maskjax.nn import flops, initializers
from maskjax.nn.families import Backbone, ConvNeXtGeometry, ResNetGeometry
from maskjax.nn.masked_conv import Style
from maskjax.nn.masked_convnext import MaskedConvNeXt
from maskjax.nn.masked_resnet import MaskedResNet

# Entries of `config.model`; ResNet-50 and ConvNeXt-S.
DEFAULTS = {
    "backbone": "resnet",  # or convnext
    "resnet": {
        "stem": 64,
        "widths": (64, 128, 256, 512),
        "blocks": (3, 4, 6, 3),
        "expansion": 4,
        "stem_stride": 2,  # small images want 1, or no pool
        "stem_pool": True,
    },
    "convnext": {
        "widths": (96, 192, 384, 768),
        "blocks": (3, 3, 27, 3),
        "patch": 4,
        "layer_scale": 1e-6,  # where the channel factors of the blocks start; 0 = none
    },
    "drop_path": 0.05,  # rate of the last block
    "dtype": "float32",
    "remat": "none",  # full: blocks are recomputed in the backward pass (not those of a ResNet)
    "lean": True,
}


@dataclasses.dataclass(frozen=True)
class Convnet:
    """A convnet and what a method must know of it.

    Attributes:
        module: unbound (images, valid, train, drop_noise) -> (logits or features, what was seen).
        widths: channels of each stage's map.
        strides: pixels from one position of the map to the next, of each stage.
        blocks: how many there are, for drop-path.
        batch_norm: whether it has batch norms, else layer norms.
        layers: depth ids of its parameters, by path.
        geometry: for weights files; {} where no layout holds it.
        flops: of a forward pass for one image.
    """

    module: nn.Module
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    blocks: int
    batch_norm: bool
    layers: Callable[[str], int]
    geometry: dict[str, Any]
    flops: int

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the maps of all stages, from the finest."""
        return tuple(f"stage{s}" for s in range(1, len(self.widths) + 1))

    def start(self, params: Tree, key: Array) -> Tree:
        """Fresh parameters with timm's zeros in the last norm of each ResNet block."""
        return initializers.redrawn(params, key, nn.initializers.zeros, r"layer3/bn/scale$")


def convnet(
    cfg: ConfigDict, *, num_classes: int = 0, final_norm: bool = False, style: Style = "sparse"
) -> Convnet:
    """The convnet that the entries of `DEFAULTS` in `config.model` name.

    Args:
        cfg: entries of `config.model`.
        num_classes: of a classifier; 0 = none.
        final_norm: whether a ConvNeXt has a norm after pooling.
        style: how it treats what is hidden, see `MaskedConv`.

    Raises:
        UserError: for sizes that do not fit each other.
    """
    fits = isinstance(cfg.drop_path, int | float) and 0 <= cfg.drop_path < 1
    require(fits, "model.drop_path", cfg.drop_path, "must be a number in [0, 1)")
    require(cfg.remat in ("none", "full"), "model.remat", cfg.remat, "none or full")
    require(cfg.backbone in MAKERS, "model.backbone", cfg.backbone, " or ".join(MAKERS))
    sizes = cfg[cfg.backbone]
    for key in ("widths", "blocks"):
        values = tuple(sizes[key])
        whole = values and all(isinstance(v, int) and v > 0 for v in values)
        require(whole, f"model.{cfg.backbone}.{key}", values, "must be positive ints, one a stage")
    what = f"must be as many as model.{cfg.backbone}.widths"
    same = len(sizes.widths) == len(sizes.blocks)
    require(same, f"model.{cfg.backbone}.blocks", tuple(sizes.blocks), what)
    image, found = options.pair(cfg.image_size, "model.image_size"), MAKERS[cfg.backbone]
    made = found(cfg, image, num_classes, final_norm, style)
    divides = not any(side % made.strides[-1] for side in image)
    what = f"must be a multiple of the stride {made.strides[-1]} of model.{cfg.backbone}"
    require(divides, "model.image_size", image, what)
    return made


def _resnet(
    cfg: ConfigDict, image: tuple[int, int], num_classes: int, final_norm: bool, style: Style
) -> Convnet:
    s = cfg.resnet
    for key, known in (("stem_stride", (1, 2)), ("stem_pool", (True, False))):
        require(s[key] in known, f"model.resnet.{key}", s[key], f"one of {known}")
    for key in ("stem", "expansion"):
        good = isinstance(s[key], int) and s[key] > 0
        require(good, f"model.resnet.{key}", s[key], "must be a positive int")
    widths, blocks = tuple(s.widths), tuple(s.blocks)
    module = MaskedResNet(
        widths,
        blocks,
        num_classes,
        s.stem,
        s.expansion,
        s.stem_stride,
        s.stem_pool,
        cfg.drop_path,
        style,
        dtype=options.dtype(cfg),
        parent=None,
    )
    first = s.stem_stride * (1 + s.stem_pool)
    strides = tuple(first * 2**i for i in range(len(widths)))
    outer = tuple(width * s.expansion for width in widths)
    places = [math.prod(image) // stride**2 for stride in (s.stem_stride, *strides)]
    total, before = flops.conv(places[0], 49, cfg.channels, s.stem), s.stem
    was = places[1]
    for width, after, number, now in zip(widths, outer, blocks, places[1:], strict=True):
        for _ in range(number):
            # The stride is that of the 3 x 3 layer: the one before it has the larger map.
            total += flops.conv(was, 1, before, width) + flops.conv(now, 9, width, width)
            total += flops.conv(now, 1, width, after)
            total += flops.conv(now, 1, before, after) if (before, was) != (after, now) else 0
            before, was = after, now
    usual = (s.stem_stride, s.stem_pool) == (2, True)
    sizes = (image, cfg.channels, blocks, widths, s.stem, s.expansion, num_classes)
    geometry = _facts(ResNetGeometry(*sizes)) if usual else {}
    layers = lambda path: resnet_layer(path, blocks)  # noqa: E731
    return Convnet(module, outer, strides, sum(blocks), True, layers, geometry, total)


def _convnext(
    cfg: ConfigDict, image: tuple[int, int], num_classes: int, final_norm: bool, style: Style
) -> Convnet:
    s = cfg.convnext
    good = isinstance(s.patch, int) and s.patch > 0
    require(good, "model.convnext.patch", s.patch, "must be a positive int")
    good = isinstance(s.layer_scale, int | float) and s.layer_scale >= 0
    require(good, "model.convnext.layer_scale", s.layer_scale, "must be a number >= 0")
    widths, blocks = tuple(s.widths), tuple(s.blocks)
    module = MaskedConvNeXt(
        widths,
        blocks,
        num_classes,
        s.patch,
        s.layer_scale,
        final_norm,
        cfg.drop_path,
        cfg.remat == "full",
        style,
        dtype=options.dtype(cfg),
        parent=None,
    )
    strides = tuple(s.patch * 2**i for i in range(len(widths)))
    total, before, window = 0, cfg.channels, s.patch**2
    for width, number, stride in zip(widths, blocks, strides, strict=True):
        now = math.prod(image) // stride**2
        block = flops.conv(now, 49, 1, width) + 2 * flops.linear(now, width, 4 * width)
        total += flops.conv(now, window, before, width) + number * block
        before, window = width, 4
    scaled = s.layer_scale > 0
    sizes = (image, cfg.channels, blocks, widths, s.patch, scaled, final_norm, num_classes)
    layers = lambda path: convnext_layer(path, blocks)  # noqa: E731
    geometry = _facts(ConvNeXtGeometry(*sizes))
    return Convnet(module, widths, strides, sum(blocks), False, layers, geometry, total)


def _facts(geometry: Backbone) -> dict[str, Any]:
    return {"family": geometry.FAMILY, **dataclasses.asdict(geometry)}


def convnext_layer(path: str, blocks: tuple[int, ...]) -> int:
    """Depth id for layer-wise decay: stages 1, 2 and 4 are one layer each, 3 blocks of stage 3 are.

    As in the official ConvNeXt and SparK: the stem is 0, a stage's reduction has the id of the
    stage's first block.
    """
    return _layer(path, blocks, 3)


def resnet_layer(path: str, blocks: tuple[int, ...]) -> int:
    """The same for a ResNet, with 2 blocks of stage 3 a layer (SparK's groups of ResNet-50)."""
    return _layer(path, blocks, 2)


def _layer(path: str, blocks: tuple[int, ...], group: int) -> int:
    third = -(-blocks[2] // group) if len(blocks) > 2 else 0
    last = min(len(blocks), 2) + third + (len(blocks) > 3)
    if found := re.search(r"(?:^|/)(stage|down)(\d+)(?:_(\d+))?", path):
        stage, block = int(found[2]), int(found[3] or 0)
        if stage <= 2:
            return stage
        return 3 + block // group if stage == 3 else last
    return 0 if re.search(r"(^|/)stem", path) else last + 1


MAKERS: dict[str, Callable[..., Convnet]] = {"resnet": _resnet, "convnext": _convnext}
