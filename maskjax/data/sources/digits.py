"""``digits``: 1,797 scanned handwritten 8x8 digits, 10 classes, from the scikit-learn package.

E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
"""

from functools import partial

import numpy as np

from maskjax.data.sources.arrays import Arrays, ArraySource, held_out
from maskjax.data.sources.checks import package_file, require_no_argument, require_split

_NUM_TEST = 397


def build(argument: str, split: str) -> ArraySource:
    """Splits: train (1,400 images) and test (397), the same seeded share of each class."""
    require_no_argument("digits", argument)
    require_split("digits", split, ("train", "test"))
    path = package_file("sklearn", "scikit-learn", "datasets/data/digits.csv.gz")
    return ArraySource(partial(_load, str(path), split), tuple("0123456789"))


def _load(path: str, split: str) -> Arrays:
    table = np.loadtxt(path, delimiter=",")
    labels = table[:, 64].astype(np.int32)
    # The file counts ink from 0 to 16.
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    chosen = held_out(labels, _NUM_TEST, "digits", split)
    return Arrays(images[chosen], labels[chosen], chosen)
