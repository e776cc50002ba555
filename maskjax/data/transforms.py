"""Geometric transforms of uint8[H, W, C] images: pure functions, and two picklable pipelines."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from maskjax.data.decode import decode
from maskjax.errors import UserError

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

Box = tuple[int, int, int, int]


def random_resized_crop_box(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A random box (top, left, height, width), as torchvision's RandomResizedCrop samples it.

    Ten tries at an area uniform in ``scale`` (a share of the image) and an aspect ratio (width over
    height) log-uniform in ``ratio``; the first that fits is placed uniformly. If none fits: the
    largest centred box whose ratio is in range. The idea is the Inception crop of Szegedy et al.,
    "Going deeper with convolutions", 2015.
    """
    area = height * width
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        target = area * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        w = round(math.sqrt(target * aspect))
        h = round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            return top, left, h, w
    return fallback_box(height, width, ratio)


def fallback_box(height: int, width: int, ratio: tuple[float, float]) -> Box:
    """The largest centred box (top, left, height, width) with width / height inside ``ratio``."""
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """image: [H, W, C], box: (top, left, h, w) inside it -> [h, w, C] (a view)."""
    top, left, height, width = box
    return image[top : top + height, left : left + width]


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = "bicubic") -> np.ndarray:
    """Antialiased resize with Pillow: uint8[H, W, C] -> uint8[*size, C].

    Channel counts other than 1 and 3 are resized channel by channel: Pillow would take four of them
    for colour with alpha and weight the colours. An image that has the size is returned as it is.
    """
    if image.shape[:2] == tuple(size):
        return image
    if image.shape[2] == 3:
        return _resize(image, size, interpolation)
    channels = [_resize(image[..., c], size, interpolation) for c in range(image.shape[2])]
    return np.stack(channels, axis=-1)


def cover_and_crop(
    image: np.ndarray, size: tuple[int, int], short_side: int = 0, interpolation: str = "bicubic"
) -> np.ndarray:
    """The evaluation transform: uint8[H, W, C] -> uint8[*size, C], the centre of the image.

    The image is scaled, keeping its shape, until it just covers a box of the proportions of
    ``size`` whose short side is ``short_side`` pixels; then the centre of ``size`` is cut out. For
    square sizes this is torchvision's Resize(short_side) and CenterCrop(size).

    Args:
        size: (height, width) of the result.
        short_side: at least min(size), or 0 for min(size): no border is cut off beyond what the
            proportions ask for.
    """
    height, width, _ = image.shape
    short_side = max(short_side, min(size))
    box_height, box_width = (round(side * short_side / min(size)) for side in size)
    if box_height * width >= box_width * height:
        scaled = box_height, box_height * width // height
    else:
        scaled = box_width * height // width, box_width
    image = resize(image, scaled, interpolation)
    top, left = (round((scaled[axis] - size[axis]) / 2) for axis in (0, 1))
    return crop(image, (top, left, *size))


def flip_horizontally(image: np.ndarray) -> np.ndarray:
    """[H, W, C] -> [H, W, C], mirrored left to right (a view)."""
    return image[:, ::-1]


@dataclass(frozen=True)
class TrainTransform:
    """Example -> uint8[*size, channels]: decode, random resized crop, horizontal flip.

    Args:
        size: (height, width) of the result.
        scale, ratio: see ``random_resized_crop_box``.
        flip: mirror half of the images.
        interpolation: a key of ``INTERPOLATIONS``.
        crop: False replaces the random crop by ``cover_and_crop``, which leaves an image that has
            the size already unchanged.
        channels: of the result; see ``data.decode``.

    Raises:
        UserError: a value is out of range; when called, the image cannot be decoded.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    interpolation: str = "bicubic"
    crop: bool = True
    channels: int = 3

    def __post_init__(self):
        _check_common(self.size, self.interpolation, self.channels)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"crop scale must be 0 < low <= high <= 1, found {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(f"crop ratio must be 0 < low <= high, found {self.ratio}")

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        # The coin is tossed first, and always, so that it is the same with and without the crop.
        mirrored = rng.random() < 0.5
        image = decode(example["image"], self.channels, example["id"])
        if self.crop:
            box = random_resized_crop_box(rng, *image.shape[:2], self.scale, self.ratio)
            image = resize(crop(image, box), self.size, self.interpolation)
        else:
            image = cover_and_crop(image, self.size, 0, self.interpolation)
        if self.flip and mirrored:
            image = flip_horizontally(image)
        return np.ascontiguousarray(image)


@dataclass(frozen=True)
class EvalTransform:
    """Example -> uint8[*size, channels]: decode, then ``cover_and_crop``.

    Args:
        size: (height, width) of the result.
        resize: what the short side is scaled to before the crop; 0 means min(size). An image that
            has the size is passed unchanged when resize is 0 or min(size).
        interpolation, channels: as in ``TrainTransform``.

    Raises:
        UserError: a value is out of range; when called, the image cannot be decoded.
    """

    size: tuple[int, int]
    resize: int = 0
    interpolation: str = "bicubic"
    channels: int = 3

    def __post_init__(self):
        _check_common(self.size, self.interpolation, self.channels)
        if self.resize and self.resize < min(self.size):
            raise UserError(f"resize {self.resize} is smaller than the image size {self.size}")

    def __call__(self, example: dict[str, Any]) -> np.ndarray:
        image = decode(example["image"], self.channels, example["id"])
        image = cover_and_crop(image, self.size, self.resize, self.interpolation)
        return np.ascontiguousarray(image)


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    height, width = size
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((width, height), INTERPOLATIONS[interpolation]))


def _check_common(size: tuple[int, int], interpolation: str, channels: int) -> None:
    if len(size) != 2 or min(size) < 1:
        raise UserError(f"image size must be (height, width) in pixels, found {size}")
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise UserError(f"unknown interpolation {interpolation!r}; it is one of: {known}")
    if channels < 1:
        raise UserError(f"channels must be at least 1, found {channels}")
