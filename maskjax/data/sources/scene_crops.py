"""Crops at seeded places in the pictures of one scene, for the small sets of real pairs and depth.

Rows are divided: no pixel is in both splits.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from maskjax.data.random import host_rng
from maskjax.data.sources.checks import require_split
from maskjax.errors import UserError

CROPS = {"train": 400, "test": 60}


class SceneCrops:
    """SIZE x SIZE crops, all pictures at the same place; there are no labels.

    Args:
        name: of the source.
        load: () -> {name: [height, width, ...]}; picklable.
        shape: (height, width) of the pictures; the lower quarter of the rows is test.
        argument: SIZE as text, "" for 96.
        split: "train" (400 crops) or "test" (60).

    Raises:
        UserError: another split, or a size that does not fit into the test rows.
    """

    class_names = None

    def __init__(
        self,
        name: str,
        load: Callable[[], dict[str, np.ndarray]],
        shape: tuple[int, int],
        argument: str,
        split: str,
    ):
        require_split(name, split, tuple(CROPS))
        height, width = shape
        border = height * 3 // 4
        size = int(argument or 96) if argument.isdecimal() or not argument else 0
        if not 1 <= size <= height - border:
            raise UserError(f"{name}:{argument}: the crop size must be 1 .. {height - border}")
        low, high = (0, border) if split == "train" else (border, height)
        rng = host_rng(0, f"{name}/{split}", 0)
        rows = rng.integers(low, high - size + 1, CROPS[split])
        columns = rng.integers(width - size + 1, size=CROPS[split])
        self.corners = np.stack([rows, columns], axis=1)
        self.name, self.load, self.size, self.split = name, load, size, split

    @cached_property
    def pictures(self) -> dict[str, np.ndarray]:
        """{name: [height, width, ...]}, loaded on first use in each process."""
        return self.load()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "pictures"}

    def __len__(self) -> int:
        return len(self.corners)

    def ids(self) -> list[str]:
        """The id of every crop."""
        return [f"{self.split}/{number:03d}" for number in range(len(self))]

    def crops(self, index: int) -> dict[str, np.ndarray]:
        """{name: [SIZE, SIZE, ...]} of one place."""
        top, left = self.corners[index]
        rows, columns = slice(top, top + self.size), slice(left, left + self.size)
        return {name: picture[rows, columns] for name, picture in self.pictures.items()}
