"""Operations on point clouds: farthest points, nearest neighbours, groups of several scales.

Clouds are float[B, N, 3]. Ids are integers: no gradient flows through a choice of points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking import tokens


class PointLevel(NamedTuple):
    """The tokens of one scale: G groups of k points of the scale below (of the cloud, at first).

    Attributes:
        centers: float32[B, G, 3].
        ids: int32[B, G, k], the points of each group, the nearest first: the centre itself.
        offsets: float32[B, G, k, 3], where they are, seen from the centre.
    """

    centers: Array
    ids: Array
    offsets: Array

    @property
    def num_tokens(self) -> int:
        """G."""
        return self.centers.shape[1]


def squared_distances(a: Array, b: Array) -> Array:
    """float32[B, N, M] between float[B, N, 3] and float[B, M, 3]; 0 where points are the same.

    By differences: |a|^2 + |b|^2 - 2 a b would lose what interpolation divides by.
    """
    return jnp.square(a[:, :, None].astype(jnp.float32) - b[:, None].astype(jnp.float32)).sum(-1)


def farthest_points(points: Array, num: int) -> Array:
    """int32[B, num]: point 0, then always the point that is farthest from those chosen.

    Farthest point sampling (Qi et al. 2017, PointNet++). Ties go to the lower id; ids repeat only
    where all points left are copies of chosen ones. CUDA kernels in use leave out points within
    |p|^2 <= 1e-3 of the origin (memory); this does not.

    Args:
        points: float[B, N, 3].
        num: 1 .. N.

    Raises:
        ValueError: for another number.
    """
    chex.assert_shape(points, (None, None, 3))
    _require_count("num", num, points.shape[1])

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        gaps, last = carry
        distance = squared_distances(points, tokens.gather(points, last[:, None]))[..., 0]
        gaps = jnp.minimum(gaps, distance)
        chosen = gaps.argmax(-1).astype(jnp.int32)
        return (gaps, chosen), chosen

    first = jnp.zeros(len(points), jnp.int32)
    start = jnp.full(points.shape[:2], jnp.inf, jnp.float32)
    _, others = jax.lax.scan(step, (start, first), length=num - 1)
    return jnp.concatenate([first[:, None], others.swapaxes(0, 1)], 1)


def nearest_points(queries: Array, points: Array, num: int) -> Array:
    """int32[B, Q, num]: the points nearest to each query, the nearest first, ties by id.

    Args:
        queries: float[B, Q, 3].
        points: float[B, N, 3].
        num: 1 .. N.

    Raises:
        ValueError: for another number.
    """
    _require_count("num", num, points.shape[1])
    places = jnp.arange(points.shape[1])

    # Rounds of argmin: unlike `top_k`, they stay on their device under every partitioner.
    def step(distances: Array, _: None) -> tuple[Array, Array]:
        found = distances.argmin(-1).astype(jnp.int32)
        return jnp.where(places == found[..., None], jnp.inf, distances), found

    _, ids = jax.lax.scan(step, squared_distances(queries, points), length=num)
    return jnp.moveaxis(ids, 0, -1)


def take(x: Array, ids: Array, *, smooth: bool = False) -> Array:
    """Rows of x [B, N, D] at ids int[B, ...] -> [B, ..., D].

    Args:
        x, ids: what and where.
        smooth: x has a gradient: by a product with one-hot rows, whose gradient is no scatter.
    """
    flat = ids.reshape(len(ids), -1)
    found = tokens.gather(x, flat, method="onehot" if smooth else "take")
    return found.reshape(*ids.shape, x.shape[-1])


def point_levels(
    points: Array, num_groups: Sequence[int], group_sizes: Sequence[int]
) -> tuple[PointLevel, ...]:
    """Groups of several scales (Point-M2AE, Zhang et al. 2022): the finest first.

    The centres of a scale are points of the one below that are far from each other, its groups
    their nearest neighbours there.

    Args:
        points: float[B, N, 3].
        num_groups: G of each scale, falling.
        group_sizes: k of each scale.

    Raises:
        ValueError: a scale wants more groups, or larger ones, than there are points below.
    """
    levels: list[PointLevel] = []
    below = points.astype(jnp.float32)
    for groups, size in zip(num_groups, group_sizes, strict=True):
        centers = take(below, farthest_points(below, groups))
        ids = nearest_points(centers, below, size)
        levels.append(PointLevel(centers, ids, take(below, ids) - centers[:, :, None]))
        below = centers
    return tuple(levels)


def interpolation(targets: Array, sources: Array, *, num: int = 3, eps: float = 1e-8) -> Array:
    """float32[B, N, S]: the share of each source in each target; rows add up to 1.

    The `num` nearest sources count, by the inverse of their squared distance (Qi et al. 2017).
    A matrix: its product with features is their interpolation, without a gather.

    Args:
        targets: float[B, N, 3].
        sources: float[B, S, 3]; all count where there are fewer than `num`.
        num: of neighbours.
        eps: added to the squared distance.
    """
    num = min(num, sources.shape[1])
    ids = nearest_points(targets, sources, num)
    near = take(sources, ids)
    inverse = 1 / (jnp.square(near - targets[:, :, None]).sum(-1) + eps)
    shares = inverse / inverse.sum(-1, keepdims=True)
    one_hot = jax.nn.one_hot(ids, sources.shape[1], dtype=jnp.float32)
    return (one_hot * shares[..., None]).sum(-2)


def _require_count(name: str, value: int, points: int):
    if not 1 <= value <= points:
        raise ValueError(f"{name} is {value}, of {points} points")
