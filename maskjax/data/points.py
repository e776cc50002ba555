"""Transforms of point clouds: {"points": float32[N, 3]}."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.data.fields import Shapes
from maskjax.data.random import host_rng
from maskjax.errors import UserError


@dataclass(frozen=True)
class PointsTrain:
    """Example -> {"points"}: a random choice of points, normalised, then stretched and shifted.

    The augmentation of Point-M2AE and I2P-MAE (Zhang et al., 2022 and 2023): after normalisation,
    each axis is multiplied by its own factor and shifted by its own distance.

    Args:
        num_points: of the result.
        scale: range of the factors; (1, 1) leaves the shape as it is.
        shift: largest distance, in both directions.
        normalize: see ``unit_sphere``.

    Raises:
        UserError: a value is out of range; when called, a point is no number.
    """

    num_points: int
    scale: tuple[float, float] = (2 / 3, 3 / 2)
    shift: float = 0.2
    normalize: bool = True

    kind = "points"

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"config.data.points.scale = {self.scale}: wants 0 < low <= high")
        if self.shift < 0:
            raise UserError(f"config.data.points.shift = {self.shift}: must not be negative")

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return point_fields(self.num_points)

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
        points = prepare(example, self.num_points, rng, self.normalize)
        factors = rng.uniform(*self.scale, 3).astype(np.float32)
        distances = rng.uniform(-self.shift, self.shift, 3).astype(np.float32)
        return {"points": points * factors + distances}


@dataclass(frozen=True)
class PointsEval:
    """Example -> {"points"}: a choice of points that depends on the example's id only, normalised.

    Args:
        num_points, normalize: as in ``PointsTrain``.
    """

    num_points: int
    normalize: bool = True

    kind = "points"

    def fields(self) -> Shapes:
        """{name: (shape, dtype)} of what a call returns."""
        return point_fields(self.num_points)

    def __call__(self, example: dict[str, Any]) -> dict[str, np.ndarray]:
        rng = host_rng(0, "points/evaluation", zlib.crc32(example["id"].encode()))
        return {"points": prepare(example, self.num_points, rng, self.normalize)}


def point_fields(num_points: int) -> Shapes:
    """The fields of a cloud of ``num_points``."""
    return {"points": ((num_points, 3), np.dtype(np.float32))}


def prepare(
    example: dict[str, Any], num_points: int, rng: np.random.Generator, normalize: bool
) -> np.ndarray:
    """float32[num_points, 3]: points of the example in random order, normalised or as they are.

    Without replacement; a cloud that has too few is used as a whole, again and again.
    """
    points = example["points"]
    if points.ndim != 2 or points.shape[1] < 3 or not len(points):
        raise UserError(f"points {example['id']!r}: wants [N, 3], found {list(points.shape)}")
    points = points[:, :3].astype(np.float32)
    if not np.isfinite(points).all():
        raise UserError(f"points {example['id']!r}: some coordinates are no numbers")
    rounds = -(-num_points // len(points))
    order = np.concatenate([rng.permutation(len(points)) for _ in range(rounds)])[:num_points]
    return unit_sphere(points[order]) if normalize else points[order]


def unit_sphere(points: np.ndarray) -> np.ndarray:
    """float32[N, 3], moved to mean 0 and scaled until the farthest point has distance 1."""
    centred = points - points.mean(axis=0)
    radius = np.sqrt((centred**2).sum(axis=1).max())
    return centred / radius if radius > 0 else centred
