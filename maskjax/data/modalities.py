"""Transforms of aligned modalities: {"rgb": uint8[H, W, 3], "depth": float32[H, W, 1], ...}."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.data import rasters
from maskjax.data.crops import PHOTO, RandomView, View, centre_view, check_aligned
from maskjax.data.decode import decode
from maskjax.data.fields import RESERVED, Shapes
from maskjax.data.photo import Photo
from maskjax.errors import UserError

# type -> (trailing shape, dtype)
TYPES = {
    "rgb": ((3,), np.uint8),
    "gray": ((1,), np.uint8),
    "normals": ((3,), np.uint8),
    "depth": ((1,), np.float32),
    "labels": ((), np.uint8),
    "labels16": ((), np.uint16),
}
_KNOWN = {"rgb": "rgb", "depth": "depth", "normals": "normals", "semseg": "labels"}
_FORM = re.compile(r"(?P<name>\w+)(=(?P<type>\w+))?(/(?P<stride>[1-9]\d*))?")


@dataclass(frozen=True)
class Modality:
    """One modality: the name of its folder and field, a key of ``TYPES``, and its coarseness.

    ``stride`` is how many pixels of the image size one of its own takes, in both directions.
    """

    name: str
    type: str
    stride: int = 1

    @staticmethod
    def read(text: str) -> "Modality":
        """From NAME[=TYPE][/STRIDE]; the type of rgb, depth, normals and semseg is known.

        Raises:
            UserError: it cannot be read, or the type is unknown.
        """
        where = f"config.data.modalities: {text!r}"
        match = _FORM.fullmatch(text)
        if match is None:
            raise UserError(f"{where}: write NAME, NAME=TYPE or NAME/STRIDE, such as semseg/4")
        kind = match["type"] or _KNOWN.get(match["name"])
        if kind not in TYPES:
            raise UserError(f"{where}: write {match['name']}=TYPE; types: {', '.join(TYPES)}")
        if match["name"] in RESERVED:
            raise UserError(f"{where}: the names {', '.join(RESERVED)} are taken")
        return Modality(match["name"], kind, int(match["stride"] or 1))

    def decode(
        self, data: bytes | np.ndarray, name: str, photo: Photo, depth_scale: float
    ) -> np.ndarray:
        """Its picture at full size."""
        if self.type in ("rgb", "normals", "gray"):
            return decode(data, 1 if self.type == "gray" else 3, name, photo.decoding)
        if self.type == "depth":
            return rasters.depth(data, name, depth_scale)
        return rasters.labels(data, name, 16 if self.type == "labels16" else 8)

    def see(
        self, picture: np.ndarray, view: View, size: tuple[int, int], photo: Photo
    ) -> np.ndarray:
        """The part that a view shows, at (height, width) / stride.

        Photographs are resampled; depth, labels and normals keep their values (nearest). The
        first channel of normals points to the right, so it is inverted in a mirrored view.
        """
        height, width = (side // self.stride for side in size)
        if self.type in ("rgb", "gray"):
            return view.image(picture, (height, width), photo)
        seen = view.nearest(picture, (height, width))
        if self.type == "normals" and view.mirrored:
            seen[..., 0] = 255 - seen[..., 0]
        return seen


@dataclass(frozen=True)
class ModalitiesTrain:
    """Example -> one array for each modality, all of one crop and one flip.

    Args:
        modalities: at least one; the box is drawn for the size of the first.
        view: crop and flip.
        photo: how photographs are read and resampled.
        depth_scale: depth is multiplied by this: 1 keeps the numbers of the files.

    Raises:
        UserError: a stride does not divide the size; when called, a modality is missing, broken, or
            of other proportions than the first.
    """

    modalities: tuple[Modality, ...]
    view: RandomView
    photo: Photo = PHOTO
    depth_scale: float = 1.0

    kind = "modalities"

    def __post_init__(self):
        modality_fields(self.modalities, self.view.size)

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return modality_fields(self.modalities, self.view.size)

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
        pictures = decode_modalities(example, self.modalities, self.photo, self.depth_scale)
        view = self.view(rng, *pictures[0].shape[:2])
        return _see(self.modalities, pictures, view, self.view.size, self.photo)


@dataclass(frozen=True)
class ModalitiesEval:
    """Example -> one array for each modality: resized, then the centre.

    Args:
        modalities, photo, depth_scale: as in ``ModalitiesTrain``.
        size: (height, width) of the results of stride 1.
        resize: as in ``transforms.EvalTransform``.
    """

    modalities: tuple[Modality, ...]
    size: tuple[int, int]
    photo: Photo = PHOTO
    resize: int = 0
    depth_scale: float = 1.0

    kind = "modalities"

    def __post_init__(self):
        modality_fields(self.modalities, self.size)

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return modality_fields(self.modalities, self.size)

    def __call__(self, example: dict[str, Any]) -> dict[str, np.ndarray]:
        pictures = decode_modalities(example, self.modalities, self.photo, self.depth_scale)
        view = centre_view(*pictures[0].shape[:2], self.size, self.resize)
        return _see(self.modalities, pictures, view, self.size, self.photo)


def modality_fields(modalities: tuple[Modality, ...], size: tuple[int, int]) -> Shapes:
    """The fields of some modalities at an image size.

    Raises:
        UserError: there are none, one is there twice, or a stride does not divide the size.
    """
    names = [modality.name for modality in modalities]
    if not names or len(set(names)) < len(names):
        raise UserError(f"config.data.modalities = {names}: name at least one, and none twice")
    for modality in modalities:
        if any(side % modality.stride for side in size):
            raise UserError(
                f"config.data.modalities: the stride {modality.stride} of {modality.name} does not"
                f" divide the image size {size}"
            )
    return {
        modality.name: (
            (size[0] // modality.stride, size[1] // modality.stride, *TYPES[modality.type][0]),
            np.dtype(TYPES[modality.type][1]),
        )
        for modality in modalities
    }


def decode_modalities(
    example: Mapping[str, Any], modalities: tuple[Modality, ...], photo: Photo, depth_scale: float
) -> list[np.ndarray]:
    """The pictures of an example, at full size, in the order of ``modalities``.

    Raises:
        UserError: one is missing, broken, or of other proportions than the first.
    """
    stored = example["modalities"]
    if lacking := [modality.name for modality in modalities if modality.name not in stored]:
        raise UserError(
            f"example {example['id']!r} has no {lacking[0]}, but config.data.modalities names it;"
            f" it has: {', '.join(stored)}"
        )
    pictures = [
        modality.decode(
            stored[modality.name], f"{modality.name}: {example['id']}", photo, depth_scale
        )
        for modality in modalities
    ]
    names = [modality.name for modality in modalities]
    check_aligned(names, [picture.shape for picture in pictures], example["id"])
    return pictures


def _see(
    modalities, pictures: list[np.ndarray], view: View, size, photo: Photo
) -> dict[str, np.ndarray]:
    return {
        modality.name: np.ascontiguousarray(modality.see(picture, view, size, photo))
        for modality, picture in zip(modalities, pictures, strict=True)
    }
