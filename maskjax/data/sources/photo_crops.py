"""``photo_crops[:SIZE]``: small crops of the embedded photographs; the label is the photograph.

Each photograph is cut into tiles of 64 x 64 pixels (what is left over at the right and the bottom
is not used). A seeded quarter of its tiles is test, the rest is train, and every crop stays inside
one
tile: no pixel is in both splits.
"""

from typing import Any

import numpy as np

from maskjax.data.random import host_rng
from maskjax.data.sources.checks import require_split
from maskjax.data.sources.photos import NAMES, photo
from maskjax.errors import UserError

TILE = 64
CROPS = {"train": 400, "test": 60}


def build(argument: str, split: str) -> "PhotoCropsSource":
    """Splits: train (400 crops of each photograph: 7,200) and test (60: 1,080)."""
    require_split("photo_crops", split, tuple(CROPS))
    size = int(argument or 32) if argument.isdecimal() or not argument else 0
    if not 1 <= size <= TILE:
        raise UserError(f"photo_crops:{argument}: the crop size must be 1 .. {TILE} pixels")
    return PhotoCropsSource(size, split)


class PhotoCropsSource:
    """uint8[SIZE, SIZE, 3] crops, ordered by photograph; pictures are decoded on first use."""

    class_names = NAMES

    def __init__(self, size: int, split: str):
        self.size, self.split = size, split
        self._corners: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_corners": None}

    def __len__(self) -> int:
        return len(NAMES) * CROPS[self.split]

    def __getitem__(self, index: int) -> dict[str, Any]:
        label, number = divmod(range(len(self))[index], CROPS[self.split])
        top, left = self.corners[label, number]
        return {
            "image": photo(NAMES[label])[top : top + self.size, left : left + self.size],
            "label": label,
            "id": f"{NAMES[label]}/{self.split}/{number:03d}",
        }

    @property
    def corners(self) -> np.ndarray:
        """int[photographs, crops, 2]: (top, left) of every crop in its photograph."""
        if self._corners is None:
            self._corners = np.stack([crop_corners(name, self.split, self.size) for name in NAMES])
        return self._corners


def tiles(name: str, split: str) -> np.ndarray:
    """int[T, 2]: (top, left) of the 64-pixel tiles of a photograph that belong to a split."""
    height, width, _ = photo(name).shape
    corners = np.stack(np.mgrid[: height // TILE, : width // TILE], -1).reshape(-1, 2) * TILE
    shuffled = host_rng(0, f"photo_crops/tiles/{name}", 0).permutation(corners)
    num_test = max(1, round(len(corners) / 4))
    return shuffled[:num_test] if split == "test" else shuffled[num_test:]


def crop_corners(name: str, split: str, size: int) -> np.ndarray:
    """int[crops, 2]: (top, left) of the crops of a photograph: a tile, then a place inside it."""
    count, places = CROPS[split], tiles(name, split)
    rng = host_rng(0, f"photo_crops/{split}/{name}", 0)
    return places[rng.integers(len(places), size=count)] + rng.integers(
        TILE - size + 1, size=(count, 2)
    )
