"""Transforms of image pairs: two views of one scene, {"image", "other"} uint8[H, W, C]."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.data.crops import PHOTO, RandomView, centre_view
from maskjax.data.fields import Shapes
from maskjax.data.photo import Photo
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
        photo: how both are read and changed; colours are drawn for each of them.
        shared_crop: one box for both, as disparity and flow need; else each has its own, as in
            CroCo (Weinzaepfel et al., 2022).

    Raises:
        UserError: when called, an image cannot be decoded, or one box is to serve two sizes.
    """

    view: RandomView
    photo: Photo = PHOTO
    shared_crop: bool = False

    kind = "pair"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return pair_fields(self.view.size, self.photo.channels)

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> Pair:
        image, other = decode_pair(example, self.photo)
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
        made = {"image": view.image(image, self.view.size, self.photo)}
        made["other"] = second.image(other, self.view.size, self.photo)
        return {name: self.photo.colour(picture, rng) for name, picture in made.items()}


@dataclass(frozen=True)
class PairEval:
    """Example -> {"image", "other"}: both resized, then their centres.

    Args:
        size: (height, width) of the results.
        photo: how both are read.
        resize: as in ``transforms.EvalTransform``.
    """

    size: tuple[int, int]
    photo: Photo = PHOTO
    resize: int = 0

    kind = "pair"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return pair_fields(self.size, self.photo.channels)

    def __call__(self, example: dict[str, Any]) -> Pair:
        made = {}
        for name, image in zip(("image", "other"), decode_pair(example, self.photo), strict=True):
            view = centre_view(*image.shape[:2], self.size, self.resize)
            made[name] = view.image(image, self.size, self.photo)
        return made


def pair_fields(size: tuple[int, int], channels: int) -> Shapes:
    """The fields of a pair of images of ``size``."""
    return {name: ((*size, channels), np.dtype(np.uint8)) for name in ("image", "other")}


def decode_pair(example: dict[str, Any], photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    """Both images of an example, uint8[H, W, C]."""
    image = photo.decode(example["image"], example["id"])
    return image, photo.decode(example["other"], f"{example['id']} (other)")
