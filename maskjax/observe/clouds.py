"""Pictures of point clouds, by numpy and Pillow alone."""

from collections.abc import Sequence

import numpy as np

from maskjax.observe import canvas, pictures

DOT = 2  # pixels across a point
FEW = 1000  # below so many points the dots are larger
TILE, MARGIN = 180, 0.06
# From above and from the side: rows are right, up and towards the eye, for clouds with z upwards.
TILTED = np.array([[0.81, 0.59, 0.0], [-0.22, 0.30, 0.93], [0.55, -0.75, 0.37]], np.float64)


def cloud_picture(
    points: np.ndarray,
    size: int,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    dot: int = DOT,
) -> np.ndarray:
    """uint8[size, size, 3]: points [N, 3] seen along the last axis, near ones (large z) light.

    Args:
        points: at least one, unless there are `bounds`.
        size: of the picture.
        bounds: lowest and highest corner [3] of what must fit in; None = of the points.
        dot: pixels across a point.
    """
    low, high = bounds or (points.min(0), points.max(0))
    scale = (size - 1) / max(float((high - low)[:2].max()), 1e-9)
    picture = np.full((size, size, 3), canvas.PAPER, np.uint8)
    points = points[np.argsort(points[:, 2])]
    middle = (low[:2] + high[:2]) / 2
    place = ((points[:, :2] - middle) * scale + size / 2).astype(int).clip(0, size - 1)
    depth = ((points[:, 2] - low[2]) / max(float(high[2] - low[2]), 1e-9)).clip(0, 1)
    for down, right in np.ndindex(dot, dot):
        rows = np.maximum(size - 1 - place[:, 1] - down, 0)
        picture[rows, np.minimum(place[:, 0] + right, size - 1)] = canvas.colour(depth)
    return picture


def cloud_sheet(columns: dict[str, Sequence[np.ndarray]], *, title: str = "") -> np.ndarray:
    """uint8[h, w, 3]: clouds [N, 3] of any sizes beside each other, by heading; see `TILTED`.

    The clouds of a row are drawn alike: to the bounds of the first.
    """
    turned = {name: [cloud @ TILTED.T for cloud in clouds] for name, clouds in columns.items()}
    first = next(iter(turned.values()))
    bounds = [_with_margin(cloud) for cloud in first]
    dot = DOT + (len(first[0]) < FEW)

    def drawn(clouds: Sequence[np.ndarray]) -> np.ndarray:
        pairs = zip(clouds, bounds, strict=True)
        return np.stack([cloud_picture(cloud, TILE, bound, dot) for cloud, bound in pairs])

    tiles = {name: drawn(clouds) for name, clouds in turned.items()}
    return pictures.sheet(tiles, title=title, blocks=1)


def _with_margin(cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a cloud that leave a little room around it."""
    low, high = cloud.min(0), cloud.max(0)
    room = MARGIN * (high - low)[:2].max()
    return low - room, high + room
