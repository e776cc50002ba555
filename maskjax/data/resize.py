"""Resizing uint8[H, W, C] images with one of three libraries.

"pillow" is the reference: antialiased, what the usual PyTorch recipes do. "simd" (cykooz-resizer)
computes the same filters four to five times faster; it rounds between its two passes in another
order, so that a few pixels differ by up to a few grey levels, the same on every processor. "opencv"
needs about as long and does not antialias, except for "area"; "bilinear" is its fastest.
"""

import functools
import math
import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

from maskjax.data.boxes import covering_frame, crop
from maskjax.data.geometric import flip_horizontally
from maskjax.errors import UserError

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Names of the same in the other libraries.
_SIMD = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3"}
_OPENCV = {
    "nearest": "INTER_NEAREST_EXACT",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
    "area": "INTER_AREA",
}
RESAMPLERS = {"pillow": tuple(INTERPOLATIONS), "simd": tuple(_SIMD), "opencv": tuple(_OPENCV)}

_MIRROR = Image.Transpose.FLIP_LEFT_RIGHT

_local = threading.local()


def check_resampler(resample: str, interpolation: str) -> None:
    """Raises UserError unless the library is known and installed, and has the interpolation."""
    if resample not in RESAMPLERS:
        raise UserError(f"unknown resample {resample!r}; it is one of: {', '.join(RESAMPLERS)}")
    if interpolation not in RESAMPLERS[resample]:
        known = ", ".join(RESAMPLERS[resample])
        raise UserError(
            f"unknown interpolation {interpolation!r}; with resample {resample!r} it is one of:"
            f" {known}"
        )
    try:
        _resizer(resample, interpolation)
    except ImportError as error:
        raise UserError(
            f"resample {resample!r} needs a package that is not installed ({error.name}): pip"
            " install maskjax[fast], or take 'pillow'"
        ) from error


def resize(
    image: np.ndarray,
    size: tuple[int, int],
    interpolation: str = "bicubic",
    resample: str = "pillow",
) -> np.ndarray:
    """uint8[H, W, C] -> uint8[*size, C]; an image that has the size is returned as it is.

    Args:
        size: (height, width) of the result.
        interpolation: one of ``RESAMPLERS[resample]``.
        resample: a key of ``RESAMPLERS``.
    """
    if image.shape[:2] == tuple(size):
        return image
    return _resizer(resample, interpolation)(image, size, None, False)


def crop_and_resize(
    image: np.ndarray,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    interpolation: str = "bicubic",
    resample: str = "pillow",
    mirror: bool = False,
) -> np.ndarray:
    """Cuts out a box and resizes it: uint8[H, W, C] -> uint8[*size, C].

    What lies outside the box has no influence, as if it had been cut out first. The sides of a box
    may lie between pixels (OpenCV rounds them).

    Args:
        box: (top, left, height, width) inside the image, in pixels.
        size, interpolation, resample: as in ``resize``.
        mirror: left to right, afterwards: the libraries do it faster than numpy.
    """
    top, left, height, width = box
    y, x = math.floor(top), math.floor(left)
    hull = y, x, math.ceil(top + height) - y, math.ceil(left + width) - x
    image = crop(image, hull)
    if image.shape[:2] == tuple(size) and hull == tuple(box):
        return flip_horizontally(image) if mirror else image
    edges = None
    if hull != tuple(box):
        bottom, right = min(top + height - y, image.shape[0]), min(left + width - x, image.shape[1])
        edges = top - y, left - x, bottom, right
    return _resizer(resample, interpolation)(image, size, edges, mirror)


def cover_and_crop(
    image: np.ndarray,
    size: tuple[int, int],
    short_side: int = 0,
    interpolation: str = "bicubic",
    resample: str = "pillow",
) -> np.ndarray:
    """The evaluation transform: uint8[H, W, C] -> uint8[*size, C], the centre of the image.

    The image is scaled, keeping its shape, until it just covers a box of the proportions of
    ``size`` whose short side is ``short_side`` pixels; then the centre of ``size`` is cut out. For
    square sizes this is torchvision's Resize(short_side) and CenterCrop(size).

    Args:
        size: (height, width) of the result.
        short_side: at least min(size), or 0 for min(size): no border is cut off beyond what the
            proportions ask for.
        interpolation, resample: as in ``resize``.
    """
    frame, corner = covering_frame(*image.shape[:2], size, short_side)
    return crop(resize(image, frame, interpolation, resample), (*corner, *size))


# (image, size, (top, left, bottom, right) between pixels or None, mirror) -> resized image
Edges = tuple[float, float, float, float] | None
Resizer = Callable[[np.ndarray, tuple[int, int], Edges, bool], np.ndarray]


@functools.cache
def _resizer(resample: str, interpolation: str) -> Resizer:
    """The function that resizes with a library, for any number of channels."""
    makers = {"pillow": _with_pillow, "simd": _with_simd, "opencv": _with_opencv}
    one, together = makers[resample](interpolation)

    def run(image: np.ndarray, size: tuple[int, int], edges: Edges, mirror: bool) -> np.ndarray:
        if image.shape[2] in together:
            return one(image, size, edges, mirror).reshape(*size, image.shape[2])
        channels = [one(image[..., c : c + 1], size, edges, mirror) for c in range(image.shape[2])]
        return np.stack([channel.reshape(size) for channel in channels], axis=-1)

    return run


# Each returns a function on images whose number of channels is among those that follow it. Four
# channels are never resized together: Pillow takes the last one for alpha and weights the others.
def _with_pillow(interpolation: str) -> tuple[Resizer, tuple[int, ...]]:
    method = INTERPOLATIONS[interpolation]

    def one(image: np.ndarray, size: tuple[int, int], edges: Edges, mirror: bool) -> np.ndarray:
        picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
        box = edges and (edges[1], edges[0], edges[3], edges[2])
        picture = picture.resize(size[::-1], method, box)
        return np.asarray(picture.transpose(_MIRROR) if mirror else picture)

    return one, (1, 3)


def _with_simd(interpolation: str) -> tuple[Resizer, tuple[int, ...]]:
    import cykooz_resizer as simd

    filter_type = simd.FilterType[_SIMD[interpolation]]
    whole = simd.ResizeOptions(simd.ResizeAlg.convolution(filter_type), use_alpha=False)
    kinds = {1: simd.PixelType.U8, 3: simd.PixelType.U8x3}

    def one(image: np.ndarray, size: tuple[int, int], edges: Edges, mirror: bool) -> np.ndarray:
        height, width, channels = image.shape
        options = whole
        if edges is not None:
            top, left, bottom, right = edges
            options = whole.copy()
            options.crop_box = simd.CropBox(left, top, right - left, bottom - top)
        if not hasattr(_local, "resizer"):
            _local.resizer = simd.Resizer()  # It has buffers: one for each thread.
        source = simd.ImageData(width, height, kinds[channels], image.tobytes())
        result = simd.ImageData(size[1], size[0], kinds[channels])
        _local.resizer.resize(source, result, options)
        image = np.frombuffer(result.get_buffer(), np.uint8).reshape(*size, channels)
        return flip_horizontally(image) if mirror else image

    return one, (1, 3)


def _with_opencv(interpolation: str) -> tuple[Resizer, tuple[int, ...]]:
    import cv2

    cv2.setNumThreads(0)  # The data pipeline has threads of its own.
    method = getattr(cv2, _OPENCV[interpolation])

    def one(image: np.ndarray, size: tuple[int, int], edges: Edges, mirror: bool) -> np.ndarray:
        if edges is not None:
            top, left = (min(round(edges[i]), image.shape[i] - 1) for i in (0, 1))
            bottom, right = max(round(edges[2]), top + 1), max(round(edges[3]), left + 1)
            image = image[top:bottom, left:right]
        image = cv2.resize(image, size[::-1], interpolation=method)
        return cv2.flip(image, 1) if mirror else image

    return one, (1, 3)
