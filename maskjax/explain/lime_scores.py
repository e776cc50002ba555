"""Test C of layer masking's paper: which way of hiding gives LIME the better explanations.

Balasubramanian and Feizi 2023; Salient-ImageNet's masks are theirs, the scores are these.
"""

from collections.abc import Callable

import numpy as np

from maskjax.explain.lime import Classifier, explain
from maskjax.explain.missingness import Row, in_batches
from maskjax.explain.segments import visible_pixels


def lime_scores(
    classifiers: dict[str, Classifier],
    judge: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    objects: np.ndarray,
    segment: Callable[[np.ndarray], np.ndarray],
    *,
    top: int = 20,
    num: int = 512,
    seed: int = 0,
    batch: int = 64,
) -> list[Row]:
    """LIME by each way of hiding, scored on the images that are classified correctly when whole.

    Args:
        classifiers: by name.
        judge: decides which images are right, and what is left of them: hidden pixels get the
            data's mean (grey).
        images, labels: uint8[n, H, W, C], int[n].
        objects: bool[n, H, W], where the object is.
        segment: image -> int[H, W].
        top: how many segments of the largest coefficients count as the explanation.
        num, seed: of the perturbations.
        batch: masks in one call.

    Returns:
        Rows {"masking", "cosine": of coefficients and what the segments hold of the object above
        the image's mean; "jaccard": of the top segments and the object; "accuracy": with the top
        segments hidden, lower is better; "images"}.
    """
    whole = np.ones(objects.shape, bool)
    right = np.flatnonzero(in_batches(judge, images, whole, batch).argmax(1) == labels)
    cosines, overlaps, kept = ({name: [] for name in classifiers} for _ in range(3))
    for index in right:
        parts = segment(images[index])
        options = {"num": num, "seed": seed, "batch": batch}
        found = explain(classifiers, images[index], parts, int(labels[index]), **options)
        truth = segment_sums(objects[index], parts)
        for name, coefficients in found.items():
            shown = top_pixels(coefficients, parts, top)
            cosines[name].append(cosine(coefficients, truth))
            overlaps[name].append(jaccard(shown, objects[index]))
            kept[name].append(~shown)
    rows = []
    for name in classifiers:
        row: Row = {"masking": name, "images": len(right)}
        row |= {"cosine": _mean(cosines[name]), "jaccard": _mean(overlaps[name])}
        row["accuracy"] = float("nan")
        if len(right):
            left = in_batches(judge, images[right], np.stack(kept[name]), batch)
            row["accuracy"] = float((left.argmax(1) == labels[right]).mean())
        rows.append(row)
    return rows


def segment_sums(mask: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """float[S]: for each segment the sum over its pixels of (mask - mean of the mask)."""
    values = mask.astype(np.float64) - mask.mean()
    return np.bincount(segments.ravel(), values.ravel(), minlength=int(segments.max()) + 1)


def top_pixels(coefficients: np.ndarray, segments: np.ndarray, top: int) -> np.ndarray:
    """bool[H, W]: the pixels of the `top` segments of the largest coefficients."""
    on = np.zeros((1, len(coefficients)), bool)
    on[0, np.argsort(-coefficients, kind="stable")[:top]] = True
    return visible_pixels(on, segments)[0]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors; 0 where one of them is 0."""
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Pixels in both masks over those in either; 0 for two empty ones."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
