"""Boxes inside an image: where to crop, and cropping. A box is (top, left, height, width)."""

import math

import numpy as np

from maskjax.errors import UserError

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


def check_crop(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Raises UserError unless ``random_resized_crop_box`` can draw with these."""
    if not 0 < scale[0] <= scale[1] <= 1:
        raise UserError(f"crop scale must be 0 < low <= high <= 1, found {scale}")
    if not 0 < ratio[0] <= ratio[1]:
        raise UserError(f"crop ratio must be 0 < low <= high, found {ratio}")


def fallback_box(height: int, width: int, ratio: tuple[float, float]) -> Box:
    """The largest centred box (top, left, height, width) with width / height inside ``ratio``."""
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def covering_frame(
    height: int, width: int, size: tuple[int, int], short_side: int = 0
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What an image is scaled to before its centre is cut out; see ``resize.cover_and_crop``.

    Returns:
        (height, width) of the scaled image, and (top, left) of the centre of ``size`` in it.
    """
    short_side = max(short_side, min(size))
    box_height, box_width = (round(side * short_side / min(size)) for side in size)
    if box_height * width >= box_width * height:
        frame = box_height, box_height * width // height
    else:
        frame = box_width * height // width, box_width
    top, left = (round((frame[axis] - size[axis]) / 2) for axis in (0, 1))
    return frame, (top, left)


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """image: [H, W, C], box: (top, left, h, w) inside it -> [h, w, C] (a view)."""
    top, left, height, width = box
    return image[top : top + height, left : left + width]
