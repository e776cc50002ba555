"""Transforms of image pairs: two views of one scene, {"image", "other"} uint8[H, W, C]."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.data.crops import RandomView, centre_view
from maskjax.data.decode import decode
from maskjax.data.fields import Shapes
from maskjax.errors import UserError

Pair = dict[str, np.ndarray]


@dataclass(frozen=True)
class PairTrain:
    """Example -> {"image", "other"}: crops of both, mirrored together or not at all.

    The mirror image of a scene is a scene, so both are mirrored. In a rectified stereo pair (its
    example has "stereo") the right camera is then the left one, so the two are exchanged as well,
    and disparities keep their sign.

    Args:
        view: crop and flip.
        shared_crop: one box for both, as disparity and flow need; else each has its own, as in
            CroCo (Weinzaepfel et al., 2022).
        interpolation: a key of ``transforms.INTERPOLATIONS``.
        channels: of the results; see ``data.decode``.

    Raises:
        UserError: when called, an image cannot be decoded, or one box is to serve two sizes.
    """

    view: RandomView
    shared_crop: bool = False
    interpolation: str = "bicubic"
    channels: int = 3

    kind = "pair"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return pair_fields(self.view.size, self.channels)

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> Pair:
        image, other = decode_pair(example, self.channels)
        view = self.view(rng, *image.shape[:2])
        if not self.shared_crop:
            second = self.view(rng, *other.shape[:2])._replace(mirrored=view.mirrored)
        elif image.shape == other.shape:
            second = view
        else:
            raise UserError(
                f"pair {example['id']!r}: one crop for both (config.data.pairs.shared_crop) wants"
                f" one size, found {image.shape[:2]} and {other.shape[:2]} (height, width)"
            )
        if view.mirrored and example.get("stereo"):
            image, other, view, second = other, image, second, view
        return {
            "image": view.image(image, self.view.size, self.interpolation),
            "other": second.image(other, self.view.size, self.interpolation),
        }


@dataclass(frozen=True)
class PairEval:
    """Example -> {"image", "other"}: both resized, then their centres.

    Args:
        size: (height, width) of the results.
        resize, interpolation, channels: as in ``transforms.EvalTransform``.
    """

    size: tuple[int, int]
    resize: int = 0
    interpolation: str = "bicubic"
    channels: int = 3

    kind = "pair"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return pair_fields(self.size, self.channels)

    def __call__(self, example: dict[str, Any]) -> Pair:
        made = {}
        for name, image in zip(
            ("image", "other"), decode_pair(example, self.channels), strict=True
        ):
            view = centre_view(*image.shape[:2], self.size, self.resize)
            made[name] = view.image(image, self.size, self.interpolation)
        return made


def pair_fields(size: tuple[int, int], channels: int) -> Shapes:
    """The fields of a pair of images of ``size``."""
    return {name: ((*size, channels), np.dtype(np.uint8)) for name in ("image", "other")}


def decode_pair(example: dict[str, Any], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Both images of an example, uint8[H, W, channels]."""
    image = decode(example["image"], channels, example["id"])
    return image, decode(example["other"], channels, f"{example['id']} (other)")
