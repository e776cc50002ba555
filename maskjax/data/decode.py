"""Encoded bytes or arrays -> uint8[H, W, C] with the channel count that was asked for.

JPEG goes through libjpeg-turbo itself (simplejpeg), everything else and CMYK through Pillow. Both
give the same pixels, at full size and at the sizes that a JPEG can be decoded to directly; tests
hold this. They differ on damage: simplejpeg refuses a file whose data stop or break anywhere,
Pillow one that is cut short, but not one that is closed again behind the damage.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from maskjax.errors import UserError

# Pillow warns above this many pixels (of a quarter of a gigabyte in RGB) and refuses twice as many.
MAX_PIXELS = 89_478_485
DECODERS = ("simplejpeg", "pillow")

_MODES = {1: "L", 3: "RGB"}
_JPEG = b"\xff\xd8\xff"
# Remarks of libjpeg about markers, not about the picture.
_HARMLESS = ("unknown JFIF revision", "Unknown Adobe color transform", "Invalid SOS parameters")


@dataclass(frozen=True)
class Decoding:
    """How encoded images are read.

    Args:
        decoder: one of ``DECODERS``: "simplejpeg" (JPEG only; the rest goes to Pillow) or "pillow".
        max_pixels: height times width in the header above which a file is refused before anything
            is decoded.

    Raises:
        UserError: a value is out of range.
    """

    decoder: str = "simplejpeg"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        if self.decoder not in DECODERS:
            known = ", ".join(DECODERS)
            raise UserError(f"unknown decoder {self.decoder!r}; it is one of: {known}")
        if not 0 < self.max_pixels <= 2 * MAX_PIXELS:
            raise UserError(
                f"max_pixels must be in 1 .. {2 * MAX_PIXELS} (above it Pillow refuses by itself),"
                f" found {self.max_pixels}"
            )


DEFAULT = Decoding()


def decode(
    image: bytes | np.ndarray,
    channels: int | None = None,
    name: str = "?",
    decoding: Decoding = DEFAULT,
) -> np.ndarray:
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
        decoding: which decoder, and what is too large.

    Raises:
        UserError: the file is broken, no image, too large by its header, or in floating point; the
            array is not uint8 or has another number of channels.
    """
    return open_picture(image, channels, name, decoding).pixels()


class Picture:
    """An image whose size is known and whose pixels are not decoded yet.

    Attributes:
        height, width: upright, in pixels.
    """

    height: int
    width: int

    def pixels(self, reduce: int = 1) -> np.ndarray:
        """The pixels, uint8[H, W, C].

        Args:
            reduce: 1, 2, 4 or 8: a JPEG comes at this fraction of its size, [ceil(height / reduce),
                ceil(width / reduce), C], for a fraction of the time (its blocks of 8 x 8 pixels
                are summed up before the inverse transform). Other formats ignore it.
        """
        raise NotImplementedError


def reduction(room: float) -> int:
    """The ``reduce`` for a picture that may become smaller by a factor of ``room``: 1 .. 8."""
    return next((factor for factor in (8, 4, 2) if room >= factor), 1)


def open_picture(
    image: bytes | np.ndarray,
    channels: int | None = None,
    name: str = "?",
    decoding: Decoding = DEFAULT,
) -> Picture:
    """``decode`` in two steps: looks at the header now, decodes when ``pixels`` is called.

    Raises:
        UserError: see ``decode``; damage behind the header is found by ``pixels``.
    """
    if isinstance(image, np.ndarray):
        return _Array(_convert_array(image, channels, name))
    if channels not in (None, *_MODES):
        raise UserError(
            f"image {name!r} is an encoded file: it decodes to 1 or 3 channels, not {channels}"
        )
    with _named(name, image):
        if decoding.decoder == "simplejpeg" and (size := _jpeg_header(image)):
            _check_size(*size[:2], decoding.max_pixels)
            return _Jpeg(image, *size, channels, name)
        return _Pillow(image, channels, name, decoding.max_pixels)


def _check_size(height: int, width: int, max_pixels: int):
    if height * width > max_pixels:
        raise UserError(
            f"its header says {width} x {height} pixels, more than the limit max_pixels ="
            f" {max_pixels}; resize it first, or raise the limit (config.data.max_pixels)"
        )


@contextlib.contextmanager
def _named(name: str, data: bytes) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:  # Its own text names an object in memory.
        raise UserError(
            f"cannot decode image {name!r} ({len(data)} bytes): it is no image file"
        ) from error
    except Exception as error:
        # Broken files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, ...
        raise UserError(f"cannot decode image {name!r} ({len(data)} bytes): {error}") from error


class _Array(Picture):
    def __init__(self, image: np.ndarray):
        self._image = image
        self.height, self.width = image.shape[:2]

    def pixels(self, reduce: int = 1) -> np.ndarray:
        return self._image


class _Jpeg(Picture):
    def __init__(
        self, data: bytes, height: int, width: int, grey: bool, channels: int | None, name: str
    ):
        self._data, self._stored, self._grey = data, (height, width), grey
        self._channels, self._name = channels or (1 if grey else 3), name
        self._orientation = _orientation(data)
        self.height, self.width = self._stored[:: -1 if self._orientation >= 5 else 1]

    def pixels(self, reduce: int = 1) -> np.ndarray:
        with _named(self._name, self._data):
            # Grey by the rule of all files, through RGB: the luma of the file is not clipped.
            image = self._decode("GRAY" if self._grey and self._channels == 1 else "RGB", reduce)
            image = _convert_array(image, self._channels, self._name)
        return _UPRIGHT.get(self._orientation, lambda x: x)(image)

    def _decode(self, space: str, reduce: int) -> np.ndarray:
        import simplejpeg

        size = {}
        if reduce > 1:
            height, width = (math.ceil(side / reduce) for side in self._stored)
            size = {"min_height": height, "min_width": width}
        try:
            return simplejpeg.decode_jpeg(self._data, space, **size)
        except ValueError as error:
            if not any(remark in str(error) for remark in _HARMLESS):
                raise UserError(f"truncated or damaged: {error}") from error
            return simplejpeg.decode_jpeg(self._data, space, strict=False, **size)


def _jpeg_header(data: bytes) -> tuple[int, int, bool] | None:
    """(height, width, is it grey) of a JPEG that simplejpeg can read, or None."""
    if not data.startswith(_JPEG):
        return None
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (height, width, space == "Gray") if space in ("Gray", "RGB", "YCbCr") else None


def _orientation(data: bytes) -> int:
    """The EXIF orientation 1 .. 8 of a JPEG, read as Pillow reads it."""
    if not _may_be_turned(data):
        return 1
    with Image.open(io.BytesIO(data)) as picture:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in _UPRIGHT else 1


def _may_be_turned(data: bytes) -> bool:
    """Whether a JPEG has an APP1 segment (EXIF or XMP) in front of its data, or an odd header."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data[at + 1] == 0xDA:  # Start of scan
            return False
        if data[at + 1] == 0xE1:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True


# Orientation -> what turns the stored pixels upright (EXIF 2.3, tag 0x0112).
_UPRIGHT = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


class _Pillow(Picture):
    def __init__(self, data: bytes, channels: int | None, name: str, max_pixels: int):
        self._data, self._channels, self._name = data, channels, name
        self._opened: Image.Image | None = Image.open(io.BytesIO(data))
        # First: some formats must be decoded to find their EXIF data.
        _check_size(*self._opened.size[::-1], max_pixels)
        turned = self._opened.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        self.height, self.width = self._opened.size[:: 1 if turned else -1]

    def pixels(self, reduce: int = 1) -> np.ndarray:
        with _named(self._name, self._data):
            # A picture can be loaded at one size only; asked again, it is opened again.
            picture = self._opened or Image.open(io.BytesIO(self._data))
            self._opened = None
            if reduce > 1:
                picture.draft(None, tuple(max(1, side // reduce) for side in picture.size))
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            channels = self._channels
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
