"""Encoded bytes or arrays -> uint8[H, W, C] with the channel count that was asked for."""

import io

import numpy as np
from PIL import Image, ImageOps

from maskjax.errors import UserError

_MODES = {1: "L", 3: "RGB"}


def decode(image: bytes | np.ndarray, channels: int | None = None, name: str = "?") -> np.ndarray:
    """One image as uint8[H, W, C].

    Encoded images (anything Pillow reads) are turned upright by their EXIF orientation and
    converted: palettes are looked up, CMYK becomes RGB, 16-bit grey keeps its high byte, alpha is
    dropped (the colours below it stay, as in the usual PyTorch loaders), colour becomes grey by the
    ITU-R 601 luma and grey becomes colour by repetition. Arrays pass unchanged when their channel
    count is right, whatever it is, and are converted between 1 and 3 by the same rules.

    Args:
        image: the bytes of a file, or uint8[H, W] or uint8[H, W, C].
        channels: 1 or 3 for encoded images, any number for arrays that have it; None keeps what is
            there (encoded: 1 if the file is grey without alpha or palette, else 3).
        name: the id of the example, for the message.

    Raises:
        UserError: the file is broken, no image, a decompression bomb, or in floating point; the
            array is not uint8 or has another number of channels.
    """
    if isinstance(image, np.ndarray):
        return _convert_array(image, channels, name)
    if channels not in (None, *_MODES):
        raise UserError(
            f"image {name!r} is an encoded file: it decodes to 1 or 3 channels, not {channels}"
        )
    try:
        return _decode(image, channels)
    except Exception as error:
        # Broken files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, ...
        raise UserError(f"cannot decode image {name!r} ({len(image)} bytes): {error}") from error


def _decode(data: bytes, channels: int | None) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        if channels is None:
            channels = 1 if picture.mode in ("1", "L") or picture.mode.startswith("I") else 3
        return _with_channel_axis(np.asarray(_to_mode(picture, _MODES[channels])))


def _to_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == mode:
        return picture
    if picture.mode == "F":
        raise UserError("floating-point pixels have no known range; convert the file to 8 bits")
    if picture.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        high = np.clip(np.asarray(picture).astype(np.int64), 0, 65535) >> 8
        picture = Image.fromarray(high.astype(np.uint8))
    elif picture.mode == "P":
        # Through RGBA: the only lookup that knows palettes with transparent entries.
        picture = picture.convert("RGBA")
    elif picture.mode == "CMYK":
        picture = picture.convert("RGB")
    return picture.convert(mode)


def _convert_array(image: np.ndarray, channels: int | None, name: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(
            f"image {name!r} must be uint8[H, W] or uint8[H, W, C],"
            f" found {image.dtype}{list(image.shape)}"
        )
    image = _with_channel_axis(image)
    if channels is None or image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3 and channels == 1:
        return _with_channel_axis(np.asarray(Image.fromarray(image).convert("L")))
    raise UserError(f"image {name!r} has {image.shape[2]} channels, the model wants {channels}")


def _with_channel_axis(image: np.ndarray) -> np.ndarray:
    return image[..., None] if image.ndim == 2 else image
