"""One crop and one flip that several aligned arrays share: frames, modalities, views."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from maskjax.data.boxes import check_crop, covering_frame, crop, random_resized_crop_box
from maskjax.data.geometric import flip_horizontally
from maskjax.data.photo import Photo
from maskjax.data.resize import resize
from maskjax.errors import UserError

PHOTO = Photo()


class View(NamedTuple):
    """Which part of a picture is seen, and whether it is mirrored.

    Attributes:
        box: (top, left, height, width) inside the frame.
        frame: (height, width) that the box is measured in: the picture's own size, or the size that
            the picture is scaled to before the box is cut out of it.
        mirrored: left and right are exchanged afterwards.
    """

    box: tuple[int, int, int, int]
    frame: tuple[int, int]
    mirrored: bool = False

    def image(self, image: np.ndarray, size: tuple[int, int], photo: Photo = PHOTO) -> np.ndarray:
        """Resampled as ``photo`` says: uint8[H, W, C] -> uint8[*size, C], contiguous.

        An image of the frame's size is cropped, then scaled; another one is scaled to the frame
        before, which changes nothing about what is seen.
        """
        how = photo.interpolation, photo.resample
        seen = resize(crop(resize(image, self.frame, *how), self.box), size, *how)
        return np.ascontiguousarray(flip_horizontally(seen) if self.mirrored else seen)

    def nearest(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """No value is made up: [H, W, ...] of any resolution and type -> [*size, ...].

        Each result is the value in whose cell the centre of the result's own cell lies.
        """
        top, left, height, width = self.box
        rows = _centres(top, height, self.frame[0], values.shape[0], size[0])
        columns = _centres(left, width, self.frame[1], values.shape[1], size[1])
        if self.mirrored:
            columns = columns[::-1]
        return values[rows[:, None], columns]


def _centres(start: int, length: int, frame: int, cells: int, count: int) -> np.ndarray:
    """The cells, of `cells` over the frame, that hold the centres of `count` parts of an interval.

    In whole numbers, so that a centre on a border always falls to the same side.
    """
    twice = 2 * start * count + (2 * np.arange(count) + 1) * length
    return np.minimum(twice * cells // (2 * count * frame), cells - 1)


@dataclass(frozen=True)
class RandomView:
    """Draws the training view of a picture: random resized crop, horizontal flip.

    Args:
        size: (height, width) of the result.
        scale, ratio: see ``transforms.random_resized_crop_box``.
        flip: mirror half of the pictures.
        crop: False takes the largest centred part of the proportions of ``size``.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    crop: bool = True

    def __post_init__(self):
        check_crop(self.scale, self.ratio)

    def __call__(self, rng: np.random.Generator, height: int, width: int) -> View:
        # The coin is tossed first, and always, so that it is the same with and without the crop.
        mirrored = bool(rng.random() < 0.5) and self.flip
        if not self.crop:
            return centre_view(height, width, self.size)._replace(mirrored=mirrored)
        box = random_resized_crop_box(rng, height, width, self.scale, self.ratio)
        return View(box, (height, width), mirrored)


# Where the box of a multi-scale crop may lie, in quarters of the room that is left, (down, right).
_PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)


@dataclass(frozen=True)
class MultiScaleView:
    """Draws the training view of TSN and VideoMAE: sides from a few scales, at one of 13 places.

    Height and width are the short side of the picture times two scales that are neighbours in the
    list or equal (Wang et al., "Temporal segment networks", 2016).

    Args:
        size: (height, width) of the result.
        scales: shares of the short side, descending.
        flip: mirror half of the pictures.
    """

    size: tuple[int, int]
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: bool = False

    def __post_init__(self):
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise UserError(f"config.data.video.scales = {self.scales}: wants numbers in (0, 1]")

    def __call__(self, rng: np.random.Generator, height: int, width: int) -> View:
        mirrored = bool(rng.random() < 0.5) and self.flip
        tall, wide = (self._sides(min(height, width), side) for side in self.size)
        pairs = [(h, w) for i, h in enumerate(tall) for j, w in enumerate(wide) if abs(i - j) <= 1]
        h, w = pairs[rng.integers(len(pairs))]
        down, right = _PLACES[rng.integers(len(_PLACES))]
        box = down * ((height - h) // 4), right * ((width - w) // 4), h, w
        return View(box, (height, width), mirrored)

    def _sides(self, short: int, wanted: int) -> list[int]:
        # A side that is nearly the wanted one is taken as it is, so that nothing is resampled.
        sides = [max(1, int(short * scale)) for scale in self.scales]
        return [wanted if abs(side - wanted) < 3 and wanted <= short else side for side in sides]


def centre_view(height: int, width: int, size: tuple[int, int], short_side: int = 0) -> View:
    """The evaluation view: scaled to cover ``size``, the centre; see ``resize.cover_and_crop``.

    Args:
        size: (height, width) of the result.
        short_side: what the short side is scaled to before the crop; 0 = min(size).
    """
    frame, corner = covering_frame(height, width, size, short_side)
    return View((*corner, *size), frame)


def check_aligned(names: list[str], shapes: list[tuple[int, ...]], example: str) -> None:
    """Raises UserError unless the arrays [H, W, ...] have the same proportions, to a pixel."""
    height, width = shapes[0][:2]
    for name, shape in zip(names, shapes, strict=True):
        if abs(shape[0] * width - shape[1] * height) > max(height, width):
            raise UserError(
                f"example {example!r}: {name} has {shape[0]} x {shape[1]} pixels (height x width),"
                f" which is another shape than the {height} x {width} of {names[0]}; they are not"
                " aligned"
            )
