"""Random erasing: a box of the image becomes noise."""

import math
from dataclasses import dataclass

import numpy as np

from maskjax.data.boxes import Box
from maskjax.data.colour import check_share
from maskjax.errors import UserError


def erasing_box(
    rng: np.random.Generator,
    height: int,
    width: int,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Box | None:
    """A random box (top, left, height, width), or None if ten tries did not fit.

    The area is uniform in ``area`` (a share of the image), the ratio of height to width
    log-uniform in ``aspect``; both sides are smaller than the image's.
    """
    for _ in range(10):
        target = rng.uniform(*area) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        h, w = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if h < height and w < width:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            return top, left, h, w
    return None


@dataclass(frozen=True)
class RandomErasing:
    """Fills a box with normal noise, in a share ``prob`` of the images.

    Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation", 2020, in the "pixel" mode of
    timm, where the noise is standard normal in normalised units. Here the image is still uint8:
    each value is mean + std * normal on the scale of 0 .. 255, rounded and clipped, so that after
    normalisation the noise is that of timm up to 1/255 of the range and but for its tails beyond
    black and white (with the mean and std of ImageNet, about 1 % on either side).

    Args:
        prob: share of the images.
        mean, std: what the images are normalised with on the device, in 0 .. 1 units; one value
            per channel, or one for all.

    Raises:
        UserError: the share is not in 0 .. 1.
    """

    prob: float
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self):
        check_share("the share of erased images", self.prob)
        if min(self.std) <= 0:
            raise UserError(f"std must be positive, found {self.std}")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8[H, W, C] -> uint8[H, W, C]."""
        if rng.random() >= self.prob:
            return image
        box = erasing_box(rng, *image.shape[:2])
        if box is None:
            return image
        top, left, height, width = box
        noise = rng.standard_normal((height, width, image.shape[2]), np.float32)
        noise = 255 * (noise * np.float32(self.std) + np.float32(self.mean))
        image = image.copy()
        image[top : top + height, left : left + width] = np.clip(np.rint(noise), 0, 255)
        return image
