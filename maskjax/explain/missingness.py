"""Does the shape of what is hidden speak? Tests A, B and D of layer masking's paper.

Balasubramanian and Feizi 2023. A way of hiding pixels is good when predictions stay while little is
missing (A), when a hidden object cannot be told by its outline (B), and when what is computed of
two regions adds up (D).
"""

from collections.abc import Callable, Sequence

import numpy as np

from maskjax.explain.lime import Classifier
from maskjax.explain.segments import grid, visible_pixels

FRACTIONS = tuple(i / 10 for i in range(11))
Row = dict[str, float | str]


def removal_masks(num: int, segments: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """bool[num, H, W]: for each image another random choice of round(fraction * S) hidden segments.

    With the same seed a larger fraction hides all that a smaller one does.
    """
    number = int(segments.max()) + 1
    order = np.random.default_rng(seed).random((num, number)).argsort(1)
    return visible_pixels(order.argsort(1) >= round(fraction * number), segments)


def removal(
    classifiers: dict[str, Classifier],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    side: int = 8,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    batch: int = 64,
) -> list[Row]:
    """Test A: segments of a grid are hidden in random order.

    Args:
        classifiers: by name.
        images, labels: uint8[n, H, W, C], int[n].
        side: of the grid of segments.
        fractions: hidden shares; the first is 0, with which predictions are compared.
        seed: of the order.
        batch: images in one call.

    Returns:
        Rows {"masking", "hidden", "accuracy", "unchanged": share of the predictions that are those
        with nothing hidden, "entropy": of the histogram of predicted classes, in bits}.
    """
    segments, rows = grid(images.shape[1:3], side), []
    for name, classify in classifiers.items():
        first = None
        for fraction in fractions:
            valid = removal_masks(len(images), segments, fraction, seed)
            scores = in_batches(classify, images, valid, batch)
            chosen = scores.argmax(1)
            first = chosen if first is None else first
            rows.append(
                {
                    "masking": name,
                    "hidden": fraction,
                    "accuracy": float((chosen == labels).mean()),
                    "unchanged": float((chosen == first).mean()),
                    "entropy": entropy(chosen, scores.shape[1]),
                }
            )
    return rows


def entropy(chosen: np.ndarray, classes: int) -> float:
    """Entropy in bits of the histogram of int[n] in 0 .. classes - 1."""
    share = np.bincount(chosen, minlength=classes) / len(chosen)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0


def object_mask(image: np.ndarray) -> np.ndarray:
    """bool[H, W]: the smaller side of Otsu's threshold of the mean channel (Otsu 1979), two rings
    of pixels wider; a stand-in where the data has no object masks."""
    grey = image.astype(np.float64).mean(-1)
    values = np.unique(grey)
    if len(values) < 2:
        return np.zeros(grey.shape, bool)
    above = grey > max(values[:-1], key=lambda t: _between(grey, t))
    mask = above if above.mean() <= 0.5 else ~above
    for _ in range(2):
        padded = np.pad(mask, 1)
        rows, columns = mask.shape
        shifts = [(r, c) for r in range(3) for c in range(3)]
        mask = np.any([padded[r : r + rows, c : c + columns] for r, c in shifts], axis=0)
    return mask


def _between(grey: np.ndarray, threshold: float) -> float:
    """Variance between the two sides of a threshold."""
    above = grey > threshold
    share = above.mean()
    return share * (1 - share) * (grey[above].mean() - grey[~above].mean()) ** 2


def broken(mask: np.ndarray) -> np.ndarray:
    """The mask with its halves swapped, upper and lower, then left and right: same area, no shape.

    [..., H, W] -> [..., H, W].
    """
    height, width = mask.shape[-2:]
    return np.roll(mask, (height // 2, width // 2), (-2, -1))


def shape_leak(
    classifiers: dict[str, Classifier],
    images: np.ndarray,
    labels: np.ndarray,
    objects: np.ndarray,
    *,
    batch: int = 64,
) -> list[Row]:
    """Test B: the object is hidden, and, to compare, as large a region without its shape.

    Args:
        classifiers: by name.
        images, labels: uint8[n, H, W, C], int[n].
        objects: bool[n, H, W].
        batch: images in one call.

    Returns:
        Rows {"masking", "object": accuracy with the object hidden, "broken": with the broken mask
        hidden, "images"}, of the images that are classified correctly when whole. A high "object"
        means that the outline of the hidden region tells the class.
    """
    rows = []
    for name, classify in classifiers.items():
        whole = np.ones(objects.shape, bool)
        right = in_batches(classify, images, whole, batch).argmax(1) == labels
        row: Row = {"masking": name, "images": int(right.sum())}
        for key, hidden in (("object", objects), ("broken", broken(objects))):
            chosen = in_batches(classify, images, ~hidden, batch).argmax(1)
            row[key] = float((chosen == labels)[right].mean()) if right.any() else float("nan")
        rows.append(row)
    return rows


def linearity(
    features: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]],
    images: np.ndarray,
    *,
    side: int = 4,
    patches: int = 4,
    seed: int = 0,
    batch: int = 64,
) -> list[Row]:
    """Test D: the sum of what is computed of single visible patches, and of all of them at once.

    Args:
        features: (images, visible) -> float[B, D], by name.
        images: uint8[n, H, W, C].
        side: of the grid of patches.
        patches: how many random ones are visible.
        seed: of their choice.
        batch: images in one call.

    Returns:
        Rows {"masking", "cosine": mean cosine of sum and union, "distance": mean |sum - union| /
        |union|}.
    """
    segments = grid(images.shape[1:3], side)
    order = np.random.default_rng(seed).random((len(images), side * side)).argsort(1)
    chosen = order[:, :patches]
    one = lambda places: visible_pixels(np.eye(side * side, dtype=bool)[places], segments)  # noqa: E731
    rows = []
    for name, fn in features.items():
        parts = [one(chosen[:, i]) for i in range(patches)]
        union = in_batches(fn, images, np.any(parts, axis=0), batch)
        total = sum(in_batches(fn, images, part, batch) for part in parts)
        lengths = [np.linalg.norm(x, axis=1) for x in (total, union)]
        cosine = (total * union).sum(1) / np.maximum(lengths[0] * lengths[1], 1e-12)
        apart = np.linalg.norm(total - union, axis=1) / np.maximum(lengths[1], 1e-12)
        row = {"cosine": float(cosine.mean()), "distance": float(apart.mean())}
        rows.append({"masking": name, **row})
    return rows


def in_batches(
    fn: Callable[[np.ndarray, np.ndarray], np.ndarray],
    images: np.ndarray,
    valid: np.ndarray,
    batch: int,
) -> np.ndarray:
    """fn of all rows, `batch` at a time; the last call is filled up with its first row."""
    found = []
    for start in range(0, len(images), batch):
        rows = np.arange(start, start + batch)
        rows = np.where(rows < len(images), rows, start)
        found.append(np.asarray(fn(images[rows], valid[rows])))
    return np.concatenate(found)[: len(images)]
