"""Sources whose images are one array in memory, loaded on first use in each process."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from maskjax.data.random import host_rng


class Arrays(NamedTuple):
    """images: uint8[N, H, W, C]; labels: int[N] or None; numbers: int[N], which make the ids."""

    images: np.ndarray
    labels: np.ndarray | None
    numbers: np.ndarray


class ArraySource:
    """A ``Source`` over one array of images.

    Args:
        load: () -> Arrays; picklable (a ``functools.partial`` of a module's function).
        class_names: one name per label, or None.
    """

    def __init__(self, load: Callable[[], Arrays], class_names: tuple[str, ...] | None = None):
        self.class_names = class_names
        self._load = load

    @cached_property
    def _arrays(self) -> Arrays:
        return self._load()

    def __getstate__(self) -> dict[str, Any]:
        # Workers load for themselves: the arrays would travel through a pipe otherwise.
        return {key: value for key, value in self.__dict__.items() if key != "_arrays"}

    def __len__(self) -> int:
        return len(self._arrays.images)

    def ids(self) -> list[str]:
        """The id of every image."""
        return [f"{number:06d}" for number in self._arrays.numbers]

    def __getitem__(self, index: int) -> dict[str, Any]:
        images, labels, numbers = self._arrays
        example = {"image": images[index], "id": f"{numbers[index]:06d}"}
        if labels is not None:
            example["label"] = int(labels[index])
        return example


def with_channels(images: np.ndarray) -> np.ndarray:
    """images: [N, H, W] or [N, H, W, C] -> [N, H, W, C] (a view)."""
    return images[..., None] if images.ndim == 3 else images


def held_out(labels: np.ndarray, num_test: int, stream: str, split: str) -> np.ndarray:
    """The numbers of the examples of a split, ascending; every class gives the same share to test.

    Args:
        labels: int[N].
        num_test: how many of the N are test, in total.
        stream: names the seeded draw.
        split: "train" or "test".
    """
    shuffled = host_rng(0, stream, 0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Evenly spaced picks from examples grouped by class take the same share of each group.
    picks = np.arange(num_test) * len(labels) // num_test
    test = np.zeros(len(labels), bool)
    test[by_class[picks]] = True
    return np.flatnonzero(test if split == "test" else ~test)
