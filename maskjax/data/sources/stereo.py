"""``stereo[:SIZE]``: crops of the "Motorcycle" stereo pair that comes with scikit-image.

D. Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", 2014;
at 500 x 741 pixels, rectified: what a crop shows is in the other one too, in the same rows and up
to 60 pixels further left.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskjax.data.decode import decode
from maskjax.data.sources.checks import package_file
from maskjax.data.sources.scene_crops import SceneCrops

KIND = "pair"
_FILES = {"image": "motorcycle_left.png", "other": "motorcycle_right.png"}


def build(argument: str, split: str) -> "StereoSource":
    """Splits: train (400 pairs) and test (60), of SIZE x SIZE pixels, 96 by default."""
    paths = {
        name: str(package_file("skimage", "scikit-image", f"data/{file}"))
        for name, file in _FILES.items()
    }
    return StereoSource("stereo", partial(_load, paths), (500, 741), argument, split)


class StereoSource(SceneCrops):
    """Left and right crop as uint8[SIZE, SIZE, 3]."""

    kind = KIND

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.crops(index), "stereo": True, "id": self.ids()[index]}


def _load(paths: dict[str, str]) -> dict[str, np.ndarray]:
    return {name: decode(Path(path).read_bytes(), 3, path) for name, path in paths.items()}
