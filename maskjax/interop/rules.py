"""One line of a layout: which leaf of ours holds which torch key, and the way between them.

A layout is a tuple of these. Order does not matter, no two lines may name the same key or leaf.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maskjax.interop.transforms import IDENTITY, TABLE, Transform

DEPTH = "{i}"


@dataclass(frozen=True)
class Resize:
    """A table that can be resampled from the grid of a file to that of the model.

    Attributes:
        kind: "table" (learned positions) or "relative" (bias by offset).
        grid: (rows, columns) of the model's patches.
        extra: Rows that are kept: in front of a table, at the end of a bias table.
    """

    kind: str
    grid: tuple[int, int]
    extra: int


@dataclass(frozen=True)
class Rule:
    """Our leaf or leaves <-> one torch key (one key a layer, when the key holds "{i}").

    Attributes:
        ours: Path of our leaf ("encoder/norm/scale"), or of several leaves that one torch tensor
            holds together (query, key and value of a fused qkv).
        theirs: Torch key. "{i}" stands for the leading depth axis of our stacked leaf: layer i of
            the leaf is the tensor of that name with the number i in it.
        transform: How one layer's leaves become the tensor, and back.
        resize: Set where a file's tensor of another grid may be resampled.
    """

    ours: str | tuple[str, ...]
    theirs: str
    transform: Transform = IDENTITY
    resize: Resize | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of ``ours``, always as a tuple."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    @property
    def stacked(self) -> bool:
        """Whether our leaves have a leading depth axis that the torch keys count out."""
        return DEPTH in self.theirs

    def key(self, layer: int) -> str:
        """The torch key of one layer (of the only one, when the rule is not stacked)."""
        return self.theirs.replace(DEPTH, str(layer))


@dataclass(frozen=True)
class Constant:
    """A torch key that is no parameter of ours: a fixed table, regenerated instead of stored.

    It is written on export and checked on import, where it may also be absent: a file whose table
    was trained would otherwise load without a word and give wrong features.

    Attributes:
        theirs: Torch key.
        values: ``grid -> float32[N, D]``: makes the table for a patch grid (rows, columns).
        grid: The grid of this model.
        transform: How the table becomes the tensor.
    """

    theirs: str
    values: Callable[[tuple[int, int]], np.ndarray]
    grid: tuple[int, int]
    transform: Transform = TABLE

    def table(self, grid: tuple[int, int] | None = None) -> np.ndarray:
        """The tensor as the torch layout stores it, for ``grid`` (default: this model's)."""
        return self.transform.to_torch(np.asarray(self.values(grid or self.grid), np.float32))


Layout = tuple[Rule | Constant, ...]
