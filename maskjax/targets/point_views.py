"""Depth pictures of a point cloud, and values of pictures at its points.

Zhang, Wang, Qiao, Gao, Li, "Learning 3D Representations from 2D Pre-trained Models via
Image-to-Point Masked Autoencoders" (I2P-MAE), CVPR 2023, with the details of the official code.
A cloud is seen along three axes. Everything is a product of small matrices, without scatter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# For each view: which coordinates are row, column and depth.
AXES = ((0, 1, 2), (2, 0, 1), (1, 2, 0))
SPREAD = (-2, -1, 0, 1, 2)  # a point is drawn as a square of 5 x 5 pixels


class PointView(NamedTuple):
    """How the cells of a picture lie on the plane of a view.

    Attributes:
        low: float32[B, 2], the lowest row and column coordinates of the cloud.
        cell: float32[B], side of a pixel; the longer side of the cloud has size - 3 of them.
        shift: float32[B, 2], pixels that bring the cloud into the middle.
    """

    low: Array
    cell: Array
    shift: Array


def seen_from(points: Array, view: int) -> Array:
    """The coordinates float[..., 3] of points as (row, column, depth) of a view 0, 1 or 2."""
    return points[..., jnp.asarray(AXES[view])]


def fit_view(points: Array, size: int) -> PointView:
    """The view of a whole cloud.

    Args:
        points: float[B, N, 3], see `seen_from`.
        size: side of the square picture in pixels, even.
    """
    plane = points[..., :2].astype(jnp.float32)
    low, high = plane.min(1), plane.max(1)
    span = (high - low).max(-1)
    # A cloud that is one point of the plane has no size: any cell will do.
    cell = jnp.where(span > 0, _divided(span, jnp.float32(size - 3)), 1)
    index = jnp.floor(_divided(plane - low[:, None], cell[:, None, None]))
    # Of the drawn squares, whose first pixel is moved to 1.
    middle = jnp.floor((index.max(1) + max(SPREAD) + index.min(1) + min(SPREAD) + 2) / 2)
    return PointView(low, cell, size / 2 - middle - 1)


def pixel_of(points: Array, view: PointView) -> Array:
    """int32[B, P, 2]: row and column of points float[B, P, 3] (see `seen_from`) of the cloud."""
    plane = points[..., :2].astype(jnp.float32) - view.low[:, None]
    index = jnp.floor(_divided(plane, view.cell[:, None, None]))
    return (index + 1 + view.shift[:, None]).astype(jnp.int32)


def _divided(x: Array, divisor: Array) -> Array:
    """x / divisor, correctly rounded where the hardware does so.

    By one number, or one a row, the compiler would multiply with its rounded inverse: points on the
    border of a pixel, and the outermost always are, would fall on its other side now and then.
    """
    return x / jnp.where(jnp.isnan(x), 1, divisor)


def depth_picture(points: Array, view: PointView, size: int) -> Array:
    """float32[B, size, size] in 0..1: sigmoid of the depths of the points, added up where they are.

    0.5 is empty. A square that sticks out by a pixel is pushed back by one.

    Args:
        points: float[B, N, 3], see `seen_from`.
        view: of the same cloud.
        size: as of `fit_view`.
    """
    drawn = pixel_of(points, view)[..., None] + jnp.asarray(SPREAD)
    drawn = drawn + (drawn < 0) - (drawn > size - 1)
    counts = (drawn[..., None] == jnp.arange(size)).sum(-2, dtype=jnp.float32)
    rows, columns = counts[:, :, 0], counts[:, :, 1]
    depth = points[..., 2:].astype(jnp.float32)
    added = jnp.einsum("bnr,bnc->brc", rows * depth, columns, precision="highest")
    return jax.nn.sigmoid(added)


def values_at(
    maps: Array, points: Array, view: PointView, tables: tuple[np.ndarray, np.ndarray]
) -> Array:
    """float32[B, P, C]: what a coarse map has at the pixels of points.

    The same as resizing the map to the picture's size and reading the pixels, for those only.

    Args:
        maps: float[B, h, w, C], of a picture of the view.
        points: float[B, P, 3] of the cloud, see `seen_from`.
        view: of the cloud.
        tables: float32[size, h] and float32[size, w], the weights of the resizing: of each cell of
            the map in each row and column of the picture.
    """
    pixel = pixel_of(points, view)
    rows, columns = (
        jnp.take(jnp.asarray(table), pixel[..., axis], axis=0, mode="clip")
        for axis, table in enumerate(tables)
    )
    weights = rows[..., :, None] * columns[..., None, :]
    weights = weights.reshape(*weights.shape[:2], -1)
    cells = maps.astype(jnp.float32).reshape(len(maps), -1, maps.shape[-1])
    return jnp.einsum("bpn,bnc->bpc", weights, cells, precision="highest")
