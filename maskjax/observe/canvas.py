"""Text, tiles and colours by Pillow: what the pictures are built from."""

import functools
from typing import Any

import numpy as np

INK, SOFT_INK, PAPER = (28, 32, 38), (104, 112, 122), (255, 255, 255)

# Nine points of matplotlib's viridis (van der Walt and Smith, CC0), dark = low.
_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ],
    np.float64,
)


@functools.cache
def font(size: int) -> Any:
    """Pillow's own font at a size in pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def blank(width: int, height: int) -> tuple[Any, Any]:
    """A white Pillow image and its drawing handle."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


class TextBlock:
    """Text broken into lines of at most a width; empty text takes no room."""

    def __init__(self, text: str, size: int, width: int):
        """`size` and `width` in pixels; a single long word may stick out."""
        self.size, self.step = size, round(size * 1.4)
        self.lines: list[str] = []
        for word in text.split():
            longer = f"{self.lines[-1]} {word}" if self.lines else word
            if self.lines and font(size).getlength(longer) <= width:
                self.lines[-1] = longer
            else:
                self.lines.append(word)

    @property
    def height(self) -> int:
        """Pixels down to where the next thing may start."""
        return len(self.lines) * self.step + self.size // 2 if self.lines else 0

    def draw(self, handle: Any, place: tuple[int, int], ink: tuple[int, int, int]) -> None:
        """Draws the lines with the upper left corner at (x, y)."""
        for number, line in enumerate(self.lines):
            handle.text((place[0], place[1] + number * self.step), line, ink, font(self.size))


def to_rgb(image: np.ndarray) -> np.ndarray:
    """float[H, W, C] in 0..1 -> uint8[H, W, 3].

    One channel is grey and three are RGB. Two are shown by their mean, more by the first three
    (`channels_note` says so). Values outside 0..1 are clipped, NaN becomes 0.
    """
    image = np.nan_to_num(np.asarray(image, np.float32)).clip(0, 1)
    channels = image.shape[-1]
    if channels == 2:
        image = image.mean(-1, keepdims=True)
    image = np.repeat(image[..., :1], 3, -1) if channels < 3 else image[..., :3]
    return np.rint(image * 255).astype(np.uint8)


def channels_note(channels: int) -> str:
    """What `to_rgb` left out, as a sentence for a caption; "" if nothing."""
    if channels == 2:
        return "The mean of 2 channels is shown."
    return f"The first 3 of {channels} channels are shown." if channels > 3 else ""


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """[H, W, C] -> [H * factor, W * factor, C] by repeating pixels: nothing is smoothed."""
    return image.repeat(factor, 0).repeat(factor, 1)


def colour(values: np.ndarray) -> np.ndarray:
    """float[...] in 0..1 -> uint8[..., 3], dark blue to yellow (viridis)."""
    place = np.asarray(values, np.float64).clip(0, 1) * (len(_VIRIDIS) - 1)
    channels = [np.interp(place, range(len(_VIRIDIS)), _VIRIDIS[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def label_colour(ids: np.ndarray) -> np.ndarray:
    """int[...] >= 0 -> uint8[..., 3]: a colour for each id, neighbours far apart.

    A low-discrepancy sequence in the colour cube (Roberts 2018, R3).
    """
    steps = np.array([0.8191725134, 0.6710436067, 0.5497004779])
    return np.rint(255 * (np.asarray(ids, np.float64)[..., None] * steps % 1)).astype(np.uint8)
