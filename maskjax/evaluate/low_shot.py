"""Few labels: ridge classification of 1, 5, 10, 25 images per class, and small shares of a set."""

from collections.abc import Sequence

import numpy as np

from maskjax.errors import UserError

SHOTS = (1, 5, 10, 25)
SHARES = (0.01, 0.1)
REPEATS = 5
# Against the mean squared norm of the chosen rows: no set is large enough to choose it on.
RIDGE = 0.1


def low_shot(
    train: np.ndarray,
    train_label: np.ndarray,
    test: np.ndarray,
    test_label: np.ndarray,
    shots: int,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> float:
    """Mean accuracy, over several draws of `shots` images per class, of ridge regression.

    Rows are centred by the mean of the chosen ones; targets are one-hot, centred too; the class of
    the largest response is named.

    Args:
        train: float[n, D].
        train_label: int[n].
        test: float[m, D].
        test_label: int[m].
        shots: images per class.
        repeats: draws.
        seed: of the draws.

    Raises:
        UserError: if a class has fewer images, or there is one class only.
    """
    classes, counts = np.unique(train_label, return_counts=True)
    if len(classes) < 2 or counts.min() < shots or not len(test):
        smallest = min(counts, default=0)
        raise UserError(
            f"low-shot classification needs {shots} training images of each of two or more classes;"
            f" there are {len(classes)} classes, the smallest with {smallest}"
        )
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng((seed, repeat, shots))
        rows = [rng.permutation(np.flatnonzero(train_label == c))[:shots] for c in classes]
        named = ridge(train[np.concatenate(rows)], np.repeat(classes, shots), test)
        found.append((named == test_label).mean())
    return float(np.mean(found))


def ridge(rows: np.ndarray, label: np.ndarray, test: np.ndarray) -> np.ndarray:
    """int[m]: the classes that ridge regression on few rows names, see `low_shot`."""
    classes, index = np.unique(label, return_inverse=True)
    mean = rows.mean(0, dtype=np.float64)
    rows, test = np.float64(rows) - mean, np.float64(test) - mean
    target = np.eye(len(classes))[index]
    gram = rows @ rows.T
    strength = RIDGE * max(np.trace(gram) / len(rows), 1e-12)
    weights = np.linalg.solve(gram + strength * np.eye(len(rows)), target - target.mean(0))
    return classes[(test @ rows.T @ weights).argmax(1)]


def stratified(label: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Ascending rows of a share of the set, spread over the classes in proportion to their sizes.

    Each class keeps at least one row.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for one in np.unique(label):
        rows = rng.permutation(np.flatnonzero(label == one))
        chosen.append(rows[: max(1, round(share * len(rows)))])
    return np.sort(np.concatenate(chosen))


def protocol(shots: int, repeats: int = REPEATS) -> str:
    """How a low-shot score was measured, in words."""
    return (
        f"low-shot: ridge regression on {shots} images per class, strength {RIDGE:g} x mean squared"
        f" norm of the centred features, mean of {repeats} draws"
    )


def possible(label: np.ndarray, shots: Sequence[int]) -> tuple[int, ...]:
    """Those of the shots that every class has images for."""
    smallest = min(np.unique(label, return_counts=True)[1], default=0)
    return tuple(number for number in shots if number <= smallest)
