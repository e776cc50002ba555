"""``shapes[:POINTS]``: made-up clouds of eight kinds of solids, for tests and a first look."""

from typing import Any

import numpy as np

from maskjax.data.point_file import surface_points
from maskjax.data.random import host_rng
from maskjax.data.solids import SOLIDS
from maskjax.data.sources.checks import require_split
from maskjax.errors import UserError

KIND = "points"
COUNTS = {"train": 1600, "test": 400}


def build(argument: str, split: str) -> "ShapesSource":
    """Splits: train (1,600 clouds) and test (400), each kind equally often."""
    require_split("shapes", split, tuple(COUNTS))
    num = int(argument or 2048) if argument.isdecimal() or not argument else 0
    if num < 1:
        raise UserError(f"shapes:{argument}: wants a number of points, such as shapes:2048")
    return ShapesSource(num, split)


class ShapesSource:
    """Points that are uniform over a solid of random proportions, turned about the z axis.

    Deterministic in (split, index); the label is the kind of solid.

    Args:
        num_points: of each cloud.
        split: "train" or "test".
    """

    kind = KIND
    class_names = tuple(SOLIDS)

    def __init__(self, num_points: int, split: str):
        self.num_points, self.split = num_points, split

    def __len__(self) -> int:
        return COUNTS[self.split]

    def ids(self) -> list[str]:
        """The id of every cloud."""
        return [f"{self.split}/{number:04d}" for number in range(len(self))]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        label, rng = index % len(SOLIDS), host_rng(0, f"shapes/{self.split}", index)
        triangles = SOLIDS[self.class_names[label]](rng)
        points = surface_points(triangles, self.num_points, rng) @ _turn(rng)
        return {
            "points": points.astype(np.float32),
            "label": label,
            "id": f"{self.split}/{index:04d}",
        }


def _turn(rng: np.random.Generator) -> np.ndarray:
    """float64[3, 3]: a rotation about the z axis."""
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([(cos, sin, 0), (-sin, cos, 0), (0, 0, 1)])
