"""What the gallery draws on: a photograph, and what the calls may use of it."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from maskjax.data.decode import decode
from maskjax.data.resize import cover_and_crop, resize
from maskjax.data.sources.photos import photo
from maskjax.errors import UserError

SIDE, GRID, PATCH = 224, (14, 14), 16
SMALL = 112  # side of the image that goes through convolutions
FRAME_GRID = (4, 8, 8)
PHOTO, COMPANIONS = "chelsea", ("coffee", "astronaut", "rocket")
NUM_SEGMENTS = 8
CORNERS = ((56, 36, 128, 108), (64, 132, 128, 204), (120, 80, 200, 152))

# Every name that a call may use without making it; the page explains them.
NAMES = {
    "key": "jax.random.key(seed)",
    "weights": "float[196], local contrast of the photograph in each token",
    "features": "three float[196, 48]: the tokens at rising blur, in place of a network's features",
    "corners": "int[3, 4], three boxes (top, left, bottom, right) in pixels",
    "segments": "int[224, 224], eight regions of alike colour",
    "x": "float[1, 112, 112, 3], the photograph",
    "blur": "float[9, 9, 3, 3], a convolution kernel that averages",
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """Pictures to draw on, and arrays to call with.

    Attributes:
        bases: by name, square uint8[S, S, 3].
        names: the arrays of `NAMES`, without the key.
    """

    bases: dict[str, np.ndarray]
    names: dict[str, Any]


def make_scene(image: np.ndarray | None = None) -> Scene:
    """The scene of a picture uint8[H, W, 3], or of the embedded photograph of a cat."""
    image = square(photo(PHOTO) if image is None else image, SIDE)
    segments = segment(image)
    small = square(image, SMALL).astype(np.float32) / 255
    names = {
        "weights": contrast(image),
        "features": _features(image),
        "corners": np.array(
            [[56, 36, 128, 108], [64, 132, 128, 204], [120, 80, 200, 152]], np.int32
        ),
        "segments": segments,
        "x": small[None],
        "blur": np.einsum("ij,cd->ijcd", np.full((9, 9), 1 / 81), np.eye(3)).astype(np.float32),
    }
    others = {name: square(photo(name), SIDE) for name in COMPANIONS}
    mosaics = {"frames": mosaic(frames(image), 16), "views": mosaic(_views(image, segments), 8)}
    return Scene({"photo": image, **others, **mosaics}, names)


def read_image(path: str | None) -> np.ndarray | None:
    """uint8[H, W, 3] of a file; None for None.

    Raises:
        UserError: if there is no such file, or it is no image.
    """
    if path is None:
        return None
    if not pathlib.Path(path).is_file():
        raise UserError(f"--image={path}: no such file")
    return decode(pathlib.Path(path).read_bytes(), 3, path)


def square(image: np.ndarray, side: int) -> np.ndarray:
    """uint8[H, W, 3] -> uint8[side, side, 3], its centre."""
    return cover_and_crop(np.asarray(image), (side, side))


def brightness(image: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3] -> float32[H, W] in 0..1."""
    return (image.astype(np.float32) / 255).mean(-1)


def contrast(image: np.ndarray) -> np.ndarray:
    """float32[196] in 0..1: deviation of the brightness inside each token."""
    cells = brightness(image).reshape(GRID[0], PATCH, GRID[1], PATCH)
    found = cells.std((1, 3)).reshape(-1)
    return found / max(float(found.max()), 1e-9)


def segment(image: np.ndarray) -> np.ndarray:
    """int32[224, 224] in 0..7: k-means of colour and place, from fixed starting points."""
    side = 56
    places = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * 2, indexing="ij"), -1)
    colours = resize(image, (side, side)).astype(np.float32) / 255
    points = np.concatenate([2 * colours, places], -1).reshape(-1, 5)
    order = np.argsort(points[:, :3].sum(1), kind="stable")
    centres = points[order[np.linspace(0, len(order) - 1, NUM_SEGMENTS).astype(int)]]
    for _ in range(12):
        owner = np.square(points[:, None] - centres).sum(-1).argmin(1)
        filled = [i for i in range(NUM_SEGMENTS) if (owner == i).any()]
        centres[filled] = [points[owner == i].mean(0) for i in filled]
    map_ = owner.reshape(side, side).astype(np.int32)
    return map_.repeat(SIDE // side, 0).repeat(SIDE // side, 1)


def frames(image: np.ndarray) -> list[np.ndarray]:
    """Four frames uint8[128, 128, 3] of a camera that pans over the picture."""
    large = resize(image, (176, 176))
    corners = [(0, 0), (16, 16), (32, 32), (48, 48)]
    return [large[top : top + 128, left : left + 128] for top, left in corners]


def mosaic(images: list[np.ndarray], gap: int) -> np.ndarray:
    """Four uint8[S, S, 3] -> uint8[2 S + gap, 2 S + gap, 3], white between them."""
    side = len(images[0])
    whole = np.full((2 * side + gap, 2 * side + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (side + gap) * (i // 2), (side + gap) * (i % 2)
        whole[top : top + side, left : left + side] = image
    return whole


def _views(image: np.ndarray, segments: np.ndarray) -> list[np.ndarray]:
    """Colour, brightness, edges and regions at 112 px: stand-ins for modalities of a scene."""
    small = resize(image, (SMALL, SMALL))
    grey = brightness(small)
    slopes = np.hypot(*np.gradient(grey))
    regions = segments[::2, ::2]
    means = np.stack([small[regions == i].mean(0) for i in np.unique(regions)])
    flat = means[np.searchsorted(np.unique(regions), regions)]
    planes = [grey, 1 - np.clip(6 * slopes, 0, 1)]
    greys = [np.rint(255 * plane)[..., None].repeat(3, -1) for plane in planes]
    return [view.astype(np.uint8) for view in (small, *greys, flat)]


def _features(image: np.ndarray) -> list[np.ndarray]:
    """Three float32[196, 48]: the tokens of the picture at 4 x 4 pixels, blurred more and more."""
    found = []
    for side in (56, 28, 14):
        small = resize(resize(image, (side, side)), (56, 56)).astype(np.float32) / 255
        cells = (small - small.mean((0, 1))).reshape(GRID[0], 4, GRID[1], 4, 3)
        found.append(cells.transpose(0, 2, 1, 3, 4).reshape(-1, 48))
    return found
