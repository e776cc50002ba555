"""What the sources of files have in common: names below a root, perhaps with labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class ListedSource:
    """Names of examples, with labels; a subclass says what an example holds.

    Args:
        root: folder that the names are relative to.
        names: also the ids.
        labels: int[N] or None.
        class_names: one name per label, or None.
    """

    def __init__(
        self,
        root: str,
        names: Sequence[str],
        labels: np.ndarray | None = None,
        class_names: tuple[str, ...] | None = None,
    ):
        self.root, self.names, self.labels, self.class_names = root, names, labels, class_names

    def __len__(self) -> int:
        return len(self.names)

    def ids(self) -> Sequence[str]:
        """The id of every example."""
        return self.names

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {**self.content(index), "id": self.names[index]}
        if self.labels is not None:
            example["label"] = int(self.labels[index])
        return example

    def content(self, index: int) -> dict[str, Any]:
        """What an example holds beside its id and label."""
        raise NotImplementedError
