"""``synthetic:HxWxC:COUNT[:CLASSES]``: made-up images that cost next to nothing."""

import re
from typing import Any

import numpy as np

from maskjax.data.random import host_rng
from maskjax.errors import UserError

_FORM = re.compile(r"(\d+)x(\d+)x(\d+):(\d+)(?::(\d+))?")
_CELLS = 8


def build(argument: str, split: str) -> "SyntheticSource":
    """Every split name has its own images, drawn from the same classes."""
    match = _FORM.fullmatch(argument)
    numbers = [int(text) for text in match.groups(default="1")] if match else [0]
    if not all(numbers):
        raise UserError(
            f"synthetic:{argument}: wants HxWxC:COUNT[:CLASSES] with numbers of at least 1,"
            " such as synthetic:224x224x3:10000:10"
        )
    height, width, channels, count, classes = numbers
    labelled = match is not None and match.group(5) is not None
    return SyntheticSource((height, width, channels), count, classes if labelled else None, split)


class SyntheticSource:
    """Images of 8 x 8 coloured cells: half drawn for the class, half for the example.

    Deterministic in (shape, classes, split, index) and separable by class, so that tests see a loss
    fall and a probe succeed. Label of example i is i modulo the number of classes.
    """

    def __init__(
        self, shape: tuple[int, int, int], count: int, classes: int | None, split: str = "train"
    ):
        self.shape, self.count, self.classes, self.split = shape, count, classes, split
        self.class_names = None if classes is None else tuple(f"class {i}" for i in range(classes))
        self._rows = np.arange(shape[0]) * _CELLS // shape[0]
        self._columns = np.arange(shape[1]) * _CELLS // shape[1]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(f"example {index} of {self.count}")
        label = index % (self.classes or 1)
        cells = self._cells("synthetic/class", label) + self._cells(
            f"synthetic/{self.split}", index
        )
        example = {"image": cells[self._rows][:, self._columns], "id": f"{index:06d}"}
        if self.classes is not None:
            example["label"] = label
        return example

    def _cells(self, stream: str, position: int) -> np.ndarray:
        rng = host_rng(0, stream, position)
        return rng.integers(0, 128, (_CELLS, _CELLS, self.shape[2]), np.uint8)
