"""Colour of pictures: pure functions, and the random stages made of them.

The functions are those of Pillow (`ImageEnhance`, `ImageOps`, `ImageFilter`), which torchvision and
timm call too, on pictures of mode "RGB" or "L". What has no meaning for grey pictures leaves them
as they are. A stage is a callable (picture, rng) -> picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from maskjax.errors import UserError


class Stage(Protocol):
    """One random step of the augmentation."""

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image: ...


def check_stages(stages: Sequence[Stage], channels: int) -> None:
    """Raises UserError unless stages can change images of so many channels."""
    if stages and channels not in (1, 3):
        raise UserError(f"colour augmentation needs images of 1 or 3 channels, not {channels}")


def apply_stages(
    stages: Sequence[Stage], image: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The stages in order: uint8[H, W, C] -> uint8[H, W, C]; C = 1 or 3 if there are any."""
    if not stages:
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    for stage in stages:
        picture = stage(picture, rng)
    return np.asarray(picture).reshape(image.shape)


def brightness(picture: Image.Image, factor: float) -> Image.Image:
    """Blends with black: 0 = black, 1 = unchanged, above 1 = brighter."""
    return ImageEnhance.Brightness(picture).enhance(factor)


def contrast(picture: Image.Image, factor: float) -> Image.Image:
    """Blends with the mean grey level: 0 = grey, 1 = unchanged."""
    return ImageEnhance.Contrast(picture).enhance(factor)


def saturation(picture: Image.Image, factor: float) -> Image.Image:
    """Blends with the grey picture: 0 = grey, 1 = unchanged."""
    return ImageEnhance.Color(picture).enhance(factor)


def sharpness(picture: Image.Image, factor: float) -> Image.Image:
    """Blends with a smoothed picture: 0 = smoothed, 1 = unchanged."""
    return ImageEnhance.Sharpness(picture).enhance(factor)


def hue(picture: Image.Image, turn: float) -> Image.Image:
    """Turns the colour circle; turn in -0.5 .. 0.5, as torchvision's adjust_hue."""
    if picture.mode == "L":
        return picture
    bands = picture.convert("HSV").split()
    turned = np.asarray(bands[0]) + np.uint8(int(turn * 255) % 256)  # around the circle
    return Image.merge("HSV", (Image.fromarray(turned), *bands[1:])).convert("RGB")


def greyscale(picture: Image.Image) -> Image.Image:
    """The luma in every channel."""
    return picture.convert("L").convert(picture.mode)


def autocontrast(picture: Image.Image) -> Image.Image:
    """Stretches each channel to 0 .. 255."""
    return ImageOps.autocontrast(picture)


def equalize(picture: Image.Image) -> Image.Image:
    """Makes the histogram of each channel flat."""
    return ImageOps.equalize(picture)


def invert(picture: Image.Image) -> Image.Image:
    """255 - value."""
    return ImageOps.invert(picture)


def solarize(picture: Image.Image, threshold: int = 128) -> Image.Image:
    """Inverts the values at or above the threshold."""
    return ImageOps.solarize(picture, threshold)


def solarize_add(picture: Image.Image, amount: int, threshold: int = 128) -> Image.Image:
    """Adds to the values below the threshold, up to 255."""
    table = [min(255, value + amount) if value < threshold else value for value in range(256)]
    return picture.point(table * len(picture.getbands()))


def posterize(picture: Image.Image, bits: int) -> Image.Image:
    """Keeps the highest bits of each value; 0 bits give black."""
    if bits < 1:  # Recent versions of Pillow refuse.
        return Image.new(picture.mode, picture.size)
    return ImageOps.posterize(picture, bits)


def blur(picture: Image.Image, radius: float) -> Image.Image:
    """Gaussian blur; the radius is the standard deviation in pixels."""
    return picture.filter(ImageFilter.GaussianBlur(radius))


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, in random order, as torchvision's.

    Args:
        brightness, contrast, saturation: the factor is uniform in max(0, 1 - x) .. 1 + x; 0 = off.
        hue: the turn is uniform in -x .. x, up to 0.5; 0 = off.
        prob: share of the pictures that are changed.

    Raises:
        UserError: a value is out of range.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    prob: float = 1.0

    def __post_init__(self):
        if min(self._ranges()) < 0 or self.hue > 0.5:
            raise UserError(
                "color jitter must be (brightness, contrast, saturation, hue), none negative and"
                f" hue at most 0.5, found {self._ranges()}"
            )
        check_share("the probability of color jitter", self.prob)

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        applied = rng.random() < self.prob
        # All are drawn, always, so that one setting does not change what the others do.
        factors = [rng.uniform(max(0.0, 1 - x), 1 + x) for x in self._ranges()[:3]]
        factors.append(rng.uniform(-self.hue, self.hue))
        order = rng.permutation(4)
        if not applied:
            return picture
        for i in order:
            if self._ranges()[i]:
                picture = (brightness, contrast, saturation, hue)[i](picture, factors[i])
        return picture

    def _ranges(self) -> tuple[float, ...]:
        return self.brightness, self.contrast, self.saturation, self.hue


@dataclass(frozen=True)
class Greyscale:
    """Takes the colour out of a share ``prob`` of the pictures."""

    prob: float

    def __post_init__(self):
        check_share("the share of greyscale pictures", self.prob)

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        return greyscale(picture) if rng.random() < self.prob else picture


@dataclass(frozen=True)
class Blur:
    """Blurs a share ``prob`` of the pictures, with a radius uniform in ``radius`` pixels.

    The radii are those of SimCLR's successors and DeiT III at 224 pixels: 0.1 .. 2.
    """

    prob: float
    radius: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self):
        check_share("the share of blurred pictures", self.prob)

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        applied, radius = rng.random() < self.prob, rng.uniform(*self.radius)
        return blur(picture, radius) if applied else picture


def check_share(what: str, value: float) -> None:
    """Raises UserError unless the value is in 0 .. 1."""
    if not 0 <= value <= 1:
        raise UserError(f"{what} must be in 0 .. 1, found {value}")
