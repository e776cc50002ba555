"""Depth maps and label maps: files of exact numbers, which are never resampled or converted."""

import io

import numpy as np
from PIL import Image

from maskjax.errors import UserError

_NPY = b"\x93NUMPY"


def decode_raster(data: bytes | np.ndarray, name: str = "?") -> np.ndarray:
    """The numbers of a file [H, W] as they are stored, or of an array.

    Encoded: npy; PNG, TIFF and others that Pillow reads with one channel (8, 16 or 32 bits,
    floating point), or a palette, whose indexes are the numbers.

    Raises:
        UserError: the file is broken, or has several channels.
    """
    array = data if isinstance(data, np.ndarray) else _decode(data, name)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(f"{name}: wants one number for each pixel, found {list(array.shape)}")
    return array


def depth(data: bytes | np.ndarray, name: str = "?", scale: float = 1.0) -> np.ndarray:
    """float32[H, W, 1]: the numbers times ``scale``; 16-bit files are exact (scale 1 or 1/65536).

    What is no number (NaN, infinity) becomes 0, which is how 16-bit files say "not measured".

    Raises:
        UserError: as ``decode_raster``.
    """
    values = decode_raster(data, name).astype(np.float32)[..., None] * np.float32(scale)
    return np.where(np.isfinite(values), values, np.float32(0))


def labels(data: bytes | np.ndarray, name: str = "?", bits: int = 8) -> np.ndarray:
    """uint8[H, W], or uint16 with 16 bits: class numbers.

    Raises:
        UserError: as ``decode_raster``; a number is no class number, or does not fit.
    """
    array = decode_raster(data, name)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise UserError(f"{name}: class numbers must be whole, found {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 2**bits:
        hint = (
            "; declare the modality as labels16" if bits == 8 and low >= 0 and high < 2**16 else ""
        )
        raise UserError(f"{name}: numbers {low} .. {high} do not fit into {bits} bits{hint}")
    return array.astype(np.uint8 if bits == 8 else np.uint16)


def _decode(data: bytes, name: str) -> np.ndarray:
    try:
        if data.startswith(_NPY):
            return np.load(io.BytesIO(data), allow_pickle=False)
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            mode, array = picture.mode, np.asarray(picture)
    except Exception as error:
        # Broken files make Pillow raise nearly anything.
        raise UserError(f"cannot decode {name!r} ({len(data)} bytes): {error}") from error
    if array.ndim != 2:
        raise UserError(
            f"{name}: is a picture of mode {mode}; numbers for each pixel (depth, labels) come in"
            " one channel or as palette indexes"
        )
    return array
