"""Boxes: [..., 4] = (top, left, bottom, right) in pixels, bottom and right exclusive."""

import chex
import jax.numpy as jnp
from jax import Array


def from_mask(mask: Array) -> Array:
    """The smallest box around each mask: bool[..., H, W] -> int32[..., 4].

    An empty mask has the box (0, 0, 0, 0), whose area is 0.
    """
    chex.assert_type(mask, bool)
    ends = [_ends(mask.any(-1)), _ends(mask.any(-2))]
    return jnp.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], -1)


def to_mask(boxes: Array, size: tuple[int, int]) -> Array:
    """True at pixels whose centre lies in the box: real[..., 4] -> bool[..., H, W].

    For whole numbers these are the pixels of rows top .. bottom - 1 and columns left .. right - 1.
    What lies outside the image is cut off; a box without area gives an empty mask.

    Args:
        boxes: any real type.
        size: (H, W) of the image.
    """
    chex.assert_axis_dimension(boxes, -1, 4)
    boxes = boxes.astype(jnp.float32)
    inside = []
    for axis, length in enumerate(size):
        centres = jnp.arange(length, dtype=jnp.float32) + 0.5
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        inside.append((low <= centres) & (centres < high))
    return inside[0][..., :, None] & inside[1][..., None, :]


def area(boxes: Array) -> Array:
    """real[..., 4] -> real[...]: height * width, 0 for a box of negative height or width."""
    height, width = (jnp.maximum(boxes[..., i + 2] - boxes[..., i], 0) for i in (0, 1))
    return height * width


def clip(boxes: Array, size: tuple[int, int]) -> Array:
    """Cuts boxes real[..., 4] off at the edges of an image of (H, W) pixels."""
    limits = jnp.asarray((*size, *size), boxes.dtype)
    return jnp.clip(boxes, 0, limits)


def expand(boxes: Array, margin: float | int) -> Array:
    """Moves all four edges of boxes real[..., 4] outwards by `margin` pixels."""
    return boxes + jnp.asarray((-margin, -margin, margin, margin), boxes.dtype)


def snap(boxes: Array, multiple: int) -> Array:
    """Moves the edges of boxes real[..., 4] outwards to multiples of `multiple` pixels: int32.

    ART (2025) cuts its layers out so, 16 pixels being one token.

    Raises:
        ValueError: unless `multiple` >= 1.
    """
    if multiple < 1:
        raise ValueError(f"multiple must be >= 1, got {multiple}")
    low = jnp.floor(boxes[..., :2] / multiple)
    high = jnp.ceil(boxes[..., 2:] / multiple)
    return (jnp.concatenate([low, high], -1) * multiple).astype(jnp.int32)


def _ends(line: Array) -> tuple[Array, Array]:
    """First True and one past the last True of bool[..., L]; 0 and 0 where there is none."""
    some = line.any(-1)
    first = jnp.argmax(line, -1)
    last = line.shape[-1] - jnp.argmax(line[..., ::-1], -1)
    return tuple(jnp.where(some, end, 0).astype(jnp.int32) for end in (first, last))
