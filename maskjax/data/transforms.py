"""From one example to the arrays of a batch: two picklable pipelines of pure functions.

Random numbers come in as generators, one for each view of an example (`data.random.host_rng` with
draw 0, 1, ...), so that view v is the same however many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.data.boxes import Box, check_crop, random_resized_crop_box
from maskjax.data.colour import Stage, apply_stages, check_stages
from maskjax.data.decode import DEFAULT, Decoding, decode, open_picture, reduction
from maskjax.data.erasing import RandomErasing
from maskjax.data.geometric import flip_horizontally
from maskjax.data.resize import check_resampler, cover_and_crop, crop_and_resize
from maskjax.errors import UserError


@dataclass(frozen=True)
class TrainTransform:
    """Example -> uint8[*size, channels]: decode, random resized crop, flip, stages, erasing.

    Args:
        size: (height, width) of the result.
        scale, ratio: see ``boxes.random_resized_crop_box``.
        flip: mirror half of the images.
        interpolation: one of ``resize.RESAMPLERS[resample]``.
        crop: False replaces the random crop by ``resize.cover_and_crop``, which leaves an image
            that has the size already unchanged.
        channels: of the result; see ``data.decode``.
        resample: a key of ``resize.RESAMPLERS``.
        decoding: which decoder, and what is too large.
        reducing_gap: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the box still has this
            many times the pixels of the result on each side; 0 = always at full size. From 2 on
            the results are those of the full size up to a few grey levels (Pillow's figure too).
        stages: see ``data.colour``, ``data.randaugment``, ``data.three_augment``; in order.
        erasing: comes last.

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
    resample: str = "pillow"
    decoding: Decoding = DEFAULT
    reducing_gap: float = 2.0
    stages: tuple[Stage, ...] = ()
    erasing: RandomErasing | None = None

    def __post_init__(self):
        _check_common(self.size, self.interpolation, self.channels, self.resample)
        check_crop(self.scale, self.ratio)
        if self.reducing_gap and self.reducing_gap < 1:
            raise UserError(f"reducing_gap must be 0 or at least 1, found {self.reducing_gap}")
        check_stages(self.stages, self.channels)

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        return self.views(example, [rng])[0]

    def views(
        self, example: dict[str, Any], rngs: Sequence[np.random.Generator]
    ) -> list[np.ndarray]:
        """Several views of an example that is decoded once: len(rngs) times uint8[*size, C].

        View v depends on rngs[v] alone, so that it is the same however many there are. (A large
        JPEG is decoded once for each of the scales 1, 1/2, 1/4, 1/8 that a view takes.)
        """
        picture = open_picture(example["image"], self.channels, example["id"], self.decoding)
        full = picture.height, picture.width
        # The coin is tossed first, and always, so that it is the same with and without the crop.
        mirrored = [rng.random() < 0.5 and self.flip for rng in rngs]
        boxes = [self._box(rng, full) for rng in rngs]
        scales = [self._reduction(box) for box in boxes]
        pixels = {scale: picture.pixels(scale) for scale in sorted(set(scales))}
        resized = [
            self._resized(pixels[scale], 1 if pixels[scale].shape[:2] == full else scale, box, coin)
            for scale, box, coin in zip(scales, boxes, mirrored, strict=True)
        ]
        return [self._finish(image, rng) for image, rng in zip(resized, rngs, strict=True)]

    def _box(self, rng: np.random.Generator, full: tuple[int, int]) -> Box | None:
        return random_resized_crop_box(rng, *full, self.scale, self.ratio) if self.crop else None

    def _reduction(self, box: Box | None) -> int:
        if box is None or not self.reducing_gap:
            return 1
        room = min(box[axis + 2] / self.size[axis] for axis in (0, 1))
        return reduction(room / self.reducing_gap)

    def _resized(self, pixels: np.ndarray, scale: int, box: Box | None, mirror: bool) -> np.ndarray:
        how = self.size, self.interpolation, self.resample
        if box is None:
            image = cover_and_crop(pixels, self.size, 0, *how[1:])
            return flip_horizontally(image) if mirror else image
        if scale > 1:
            # A reduced picture: the box shrinks with it, and may end between pixels.
            box = tuple(side / scale for side in box)
        return crop_and_resize(pixels, box, *how, mirror)

    def _finish(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = apply_stages(self.stages, image, rng)
        if self.erasing is not None:
            image = self.erasing(image, rng)
        return np.ascontiguousarray(image)


@dataclass(frozen=True)
class EvalTransform:
    """Example -> uint8[*size, channels]: decode, then ``resize.cover_and_crop``.

    Args:
        size: (height, width) of the result.
        resize: what the short side is scaled to before the crop; 0 means min(size). An image that
            has the size is passed unchanged when resize is 0 or min(size).
        interpolation, channels, resample, decoding: as in ``TrainTransform``. Nothing is decoded
            at a reduced size here.

    Raises:
        UserError: a value is out of range; when called, the image cannot be decoded.
    """

    size: tuple[int, int]
    resize: int = 0
    interpolation: str = "bicubic"
    channels: int = 3
    resample: str = "pillow"
    decoding: Decoding = DEFAULT

    def __post_init__(self):
        _check_common(self.size, self.interpolation, self.channels, self.resample)
        if self.resize and self.resize < min(self.size):
            raise UserError(f"resize {self.resize} is smaller than the image size {self.size}")

    def __call__(self, example: dict[str, Any]) -> np.ndarray:
        image = decode(example["image"], self.channels, example["id"], self.decoding)
        image = cover_and_crop(image, self.size, self.resize, self.interpolation, self.resample)
        return np.ascontiguousarray(image)


def _check_common(size: tuple[int, int], interpolation: str, channels: int, resample: str) -> None:
    if len(size) != 2 or min(size) < 1:
        raise UserError(f"image size must be (height, width) in pixels, found {size}")
    check_resampler(resample, interpolation)
    if channels < 1:
        raise UserError(f"channels must be at least 1, found {channels}")
