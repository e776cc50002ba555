"""Shapes of masks bool[..., H, W]: dilate, erode, outline, area, holes."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Pair = int | tuple[int, int]


def dilate(mask: Array, size: Pair) -> Array:
    """True where the window around a pixel touches the mask; outside the image is False.

    Args:
        mask: bool[..., H, W].
        size: of the rectangular window, one number or (rows, columns), >= 1; 1 changes nothing. An
            even size k spans -k/2 .. k/2 - 1 around the pixel, as in OpenCV, here and in `erode`.

    Returns:
        bool[..., H, W].

    Raises:
        ValueError: for a size below 1.
    """
    return _slide(mask, size, False, lax.max)


def erode(mask: Array, size: Pair) -> Array:
    """True where the whole window around a pixel is in the mask; outside the image is True.

    So the border of the image does not erode; arguments as `dilate`. erode(m) = ~dilate(~m).
    """
    return _slide(mask, size, True, lax.min)


def outline(
    mask: Array, size: Pair = 3, *, side: Literal["inner", "outer", "both"] = "inner"
) -> Array:
    """The rim of a mask: what an erosion takes away, a dilation adds, or both.

    Args:
        mask: bool[..., H, W].
        size: of the window, as in `dilate`; the rim is about size / 2 wide on each side.

    Raises:
        ValueError: for an unknown side.
    """
    inner, outer = mask & ~erode(mask, size), dilate(mask, size) & ~mask
    sides = {"inner": inner, "outer": outer, "both": inner | outer}
    if side not in sides:
        raise ValueError(f"side must be one of {', '.join(sides)}, got {side!r}")
    return sides[side]


def area(mask: Array) -> Array:
    """int32[...]: number of True pixels of bool[..., H, W]."""
    chex.assert_type(mask, bool)
    return mask.sum((-2, -1), dtype=jnp.int32)


def holes(mask: Array, *, num_sweeps: int | None = None) -> Array:
    """True at False pixels that the mask encloses: no 4-connected way leads to the image border.

    Floods the outside along whole rows and columns at once, a fixed number of times.

    Args:
        mask: bool[..., H, W].
        num_sweeps: each follows a way around two more corners at least. Default max(H, W): enough
            but for labyrinths; H * W // 4 + 1 is always enough.

    Returns:
        bool[..., H, W].
    """
    chex.assert_type(mask, bool)
    passable = ~mask
    height, width = mask.shape[-2:]
    num_sweeps = max(height, width) if num_sweeps is None else num_sweeps
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False

    def sweep(_, outside: Array) -> Array:
        for axis in (-1, -2):
            for reverse in (False, True):
                outside = _flood(outside, passable, axis, reverse)
        return outside

    outside = lax.fori_loop(0, num_sweeps, sweep, passable & border)
    return passable & ~outside


def fill_holes(mask: Array, *, num_sweeps: int | None = None) -> Array:
    """The mask with its `holes` filled, bool[..., H, W]."""
    return mask | holes(mask, num_sweeps=num_sweeps)


def _flood(outside: Array, passable: Array, axis: int, reverse: bool) -> Array:
    """Carries `outside` along one axis for as long as the way is passable."""

    def step(before: tuple[Array, Array], after: tuple[Array, Array]) -> tuple[Array, Array]:
        return after[0] | (before[0] & after[1]), before[1] & after[1]

    axis = outside.ndim + axis
    return jax.lax.associative_scan(step, (outside, passable), reverse=reverse, axis=axis)[0]


def _slide(mask: Array, size: Pair, outside: bool, operation) -> Array:
    """A rectangular window, rows first and then columns."""
    chex.assert_type(mask, bool)
    sizes = (size, size) if isinstance(size, int) else size
    if min(sizes) < 1:
        raise ValueError(f"size must be >= 1, got {size}")
    for axis, k in zip((mask.ndim - 2, mask.ndim - 1), sizes, strict=True):
        dims, pads = [1] * mask.ndim, [(0, 0)] * mask.ndim
        dims[axis], pads[axis] = k, (k // 2, k - 1 - k // 2)
        mask = lax.reduce_window(mask, np.bool_(outside), operation, dims, [1] * mask.ndim, pads)
    return mask
