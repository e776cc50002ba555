"""Pictures as pixels: maps laid over the photograph, heat maps, matrices."""

import numpy as np
from PIL import Image

from maskjax.gallery.scene import Scene
from maskjax.gallery.shows import Picture
from maskjax.observe import canvas

REACH = 0.25  # a heat map spans this much below and above its mean


def tile(picture: Picture, scene: Scene, side: int) -> np.ndarray:
    """A picture as uint8[side, side, 3]; white where nothing is drawn."""
    if picture.image is not None:
        return _scaled(picture.image, side, Image.Resampling.BICUBIC)
    shown = np.zeros((side, side, 3))
    for number, style in enumerate(picture.styles):
        base = np.full((side, side, 3), 255.0)
        if style.base:
            base = _scaled(scene.bases[style.base], side, Image.Resampling.LANCZOS).astype(float)
        colour = np.asarray(style.colour, float)
        share = _where(picture, number, side)[..., None]
        shown += share * (base + (colour - base) * style.opacity)
    return np.rint(shown).clip(0, 255).astype(np.uint8)


def _where(picture: Picture, number: int, side: int) -> np.ndarray:
    """float[side, side] in 0..1: how much of each pixel has this number."""
    method = Image.Resampling.BILINEAR if picture.smooth else Image.Resampling.NEAREST
    mask = Image.fromarray(np.where(picture.cells == number, 255, 0).astype(np.uint8))
    return np.asarray(mask.resize((side, side), method), float) / 255


def heat(frequency: np.ndarray) -> np.ndarray:
    """float[h, w] in 0..1 -> uint8[h, w, 3]: colours from 0.25 below the mean to 0.25 above."""
    return canvas.colour((frequency - frequency.mean()) / (2 * REACH) + 0.5)


def matrix(values: np.ndarray) -> np.ndarray:
    """float[Q, K] in 0..1 -> uint8[Q, K, 3]: from grey (0) to blue (1)."""
    low, high = np.array((232.0, 234.0, 237.0)), np.array((24.0, 90.0, 160.0))
    return np.rint(low + (high - low) * np.asarray(values)[..., None]).astype(np.uint8)


def thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8[h, w, 3] -> uint8[side, side, 3]: cells enlarged as they are, large maps averaged."""
    method = Image.Resampling.NEAREST if len(pixels) <= side else Image.Resampling.BOX
    return _scaled(pixels, side, method)


def _scaled(image: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), method))
