"""Geometries of the networks that are no plain ViT, and the way to the right kind of one."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from maskjax.errors import UserError
from maskjax.nn.described import FAMILY, Described, header_values
from maskjax.nn.geometry import Geometry

MAY_BE_ZERO = ("num_classes", "mask_token", "pixel_head", "layer_scale", "final_norm")


class Backbone(Described):
    """What the geometries below share: images only, stages."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, field.name, tuple(value))
            if field.name not in MAY_BE_ZERO and not _positive(value):
                raise UserError(f"geometry: {field.name}={value!r}; it must be positive.")

    @property
    def grid(self) -> None:
        """No table of these networks lies on a grid of patches."""
        return None

    def encoder_only(self) -> Self:
        """The same model without its decoder, if there is one."""
        return self

    def binding(self) -> tuple[str, ...]:
        """Fields that must agree with those of a file."""
        free = ("image_size", "num_classes", "eps")
        return tuple(f.name for f in dataclasses.fields(self) if f.name not in free)


class Convnet(Backbone):
    """What the geometries of convnets share: as many `blocks` as `widths`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.blocks) != len(self.widths):
            raise UserError(
                f"geometry: blocks={self.blocks} and widths={self.widths} differ in length."
            )


@dataclass(frozen=True)
class ResNetGeometry(Convnet):
    """A ResNet of bottleneck blocks (He et al. 2016, stride in the 3 x 3 layer).

    Attributes:
        image_size: (height, width) in pixels.
        channels: Image channels.
        blocks: Number of blocks of each stage.
        widths: Bottleneck width of each stage.
        stem: Channels of the 7 x 7 stem.
        expansion: A stage's channels over its width.
        num_classes: Outputs of the classifier; 0 means none.
        eps: Of every batch norm.

    Raises:
        UserError: A value is impossible; the message names the field.
    """

    FAMILY: ClassVar[str] = "resnet"

    image_size: tuple[int, int]
    channels: int = 3
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    expansion: int = 4
    num_classes: int = 0
    eps: float = 1e-5

    @property
    def dim(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1] * self.expansion

    @property
    def shortcuts(self) -> tuple[str, ...]:
        """Blocks with a convolution in their shortcut: where the size or the channels change."""
        same = self.stem == self.widths[0] * self.expansion
        return tuple(f"stage{s}_0" for s in range(1 + same, len(self.blocks) + 1))


@dataclass(frozen=True)
class SwinGeometry(Backbone):
    """A Swin transformer (Liu et al. 2021): each stage has half the rows and twice the width.

    Attributes:
        image_size: (height, width) in pixels, multiples of a patch of the last stage.
        patch_size: Side of a patch of the first stage.
        channels: Image channels.
        embed_dim: Width of the first stage.
        depths, heads: Blocks and attention heads of each stage.
        window: Side of the windows, in tokens; a stage that is not larger has one window.
        mlp_ratio: How much wider the MLPs are.
        mask_token: Whether there is a token for hidden patches (SimMIM).
        pixel_head: One linear layer from each token to its pixels (SimMIM); needs a mask token.
        num_classes: Outputs of the classifier of the mean token; 0 means none.
        eps: Of every LayerNorm.

    Raises:
        UserError: A value is impossible; the message names the field.
    """

    FAMILY: ClassVar[str] = "swin"

    image_size: tuple[int, int]
    patch_size: int = 4
    channels: int = 3
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    mlp_ratio: float = 4.0
    mask_token: bool = False
    pixel_head: bool = False
    num_classes: int = 0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixel_head and (self.num_classes or not self.mask_token):
            raise UserError("geometry: pixel_head=True needs mask_token=True and no classes.")
        if len(self.depths) != len(self.heads):
            raise UserError(
                f"geometry: depths={self.depths} and heads={self.heads} differ in length."
            )
        if any(self.embed_dim * 2**s % heads for s, heads in enumerate(self.heads)):
            raise UserError(f"geometry: heads={self.heads} do not divide the stages' widths.")
        if any(size % self.stride for size in self.image_size):
            size = self.image_size
            raise UserError(f"geometry: image_size={size} is no multiple of {self.stride}.")
        for (rows, columns), side in zip(self.grids, self.sides, strict=True):
            if rows % side or columns % side:
                raise UserError(
                    f"geometry: window={self.window}; it does not divide a grid of {rows, columns}."
                )

    @property
    def dim(self) -> int:
        """Width of the last stage."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)

    @property
    def stride(self) -> int:
        """Side of the pixels that a token of the last stage stands for."""
        return self.patch_size * 2 ** (len(self.depths) - 1)

    def encoder_only(self) -> Self:
        """The same model without the head to pixels."""
        return dataclasses.replace(self, pixel_head=False)

    def binding(self) -> tuple[str, ...]:
        """A head to pixels may be left out or added."""
        return tuple(name for name in super().binding() if name != "pixel_head")

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of tokens in each stage."""
        height, width = (size // self.patch_size for size in self.image_size)
        return tuple((height >> s, width >> s) for s in range(len(self.depths)))

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the windows of each stage, in tokens."""
        return tuple(min(*grid, self.window) for grid in self.grids)


@dataclass(frozen=True)
class ConvNeXtGeometry(Convnet):
    """A ConvNeXt (Liu et al. 2022).

    Attributes:
        image_size: (height, width) in pixels.
        channels: Image channels.
        blocks, widths: Number of blocks and channels of each stage.
        patch_size: Side and stride of the first convolution.
        layer_scale: Whether the blocks have channel factors.
        final_norm: Whether there is a norm after pooling; SparK's backbones have none.
        num_classes: Outputs of the classifier; 0 means none.
        eps: Of every norm.

    Raises:
        UserError: A value is impossible; the message names the field.
    """

    FAMILY: ClassVar[str] = "convnext"

    image_size: tuple[int, int]
    channels: int = 3
    blocks: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch_size: int = 4
    layer_scale: bool = True
    final_norm: bool = True
    num_classes: int = 0
    eps: float = 1e-6

    @property
    def dim(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1]

    def binding(self) -> tuple[str, ...]:
        """A final norm may be left out or added."""
        return tuple(name for name in super().binding() if name != "final_norm")


AnyGeometry = Geometry | ResNetGeometry | SwinGeometry | ConvNeXtGeometry
FAMILIES = {cls.FAMILY: cls for cls in (Geometry, ResNetGeometry, SwinGeometry, ConvNeXtGeometry)}


def geometry_from(values: Mapping[str, Any]) -> AnyGeometry:
    """The geometry of the family that the entry "family" names; without it, that of a ViT.

    Raises:
        UserError: There is no such family, or a value is impossible.
    """
    family = values.get(FAMILY, "")
    return _class_of(family)(**{key: value for key, value in values.items() if key != FAMILY})


def from_metadata(metadata: Mapping[str, str]) -> AnyGeometry | None:
    """The geometry in a file's header, of any family; None when it holds none.

    Raises:
        UserError: It cannot be read.
    """
    try:
        family = header_values(metadata).get(FAMILY, "")
    except json.JSONDecodeError:
        family = ""  # the class says which value it is
    return _class_of(family).from_metadata(metadata)


def _class_of(family: str) -> type:
    if family not in FAMILIES:
        known = ", ".join(repr(name) for name in FAMILIES)
        raise UserError(f"geometry: family={family!r}; this maskjax knows {known}.")
    return FAMILIES[family]


def _positive(value: Any) -> bool:
    values = value if isinstance(value, tuple | list) else (value,)
    return bool(values) and all(v > 0 for v in values)
