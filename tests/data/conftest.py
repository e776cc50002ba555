"""One small image set, as arrays and as a folder."""

from pathlib import Path

import numpy as np
import pytest
from image_files import encode, write


@pytest.fixture
def pictures() -> np.ndarray:
    """uint8[6, 9, 7, 3]: six small pictures; the first four are train, two of each class."""
    return np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), np.uint8)


@pytest.fixture
def image_folder(tmp_path, pictures) -> Path:
    """DIR/train/{ant,bee}/{0,1}.png and DIR/test/bee/{0,1}.png (no ant in test)."""
    root = tmp_path / "set"
    for number, name in enumerate(["train/ant/0", "train/ant/1", "train/bee/0", "train/bee/1"]):
        write(root / f"{name}.png", encode(pictures[number]))
    for number in (0, 1):
        write(root / f"test/bee/{number}.png", encode(pictures[4 + number]))
    return root
