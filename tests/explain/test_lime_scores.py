"""Scores of explanations, on a classifier that reads one corner and one that reads none."""

import numpy as np
import pytest

from maskjax.explain import lime_scores
from maskjax.explain.segments import grid

PARTS = grid((8, 8), 4)
OBJECT = PARTS == 5
IMAGES = np.full((6, 8, 8, 3), 9, np.uint8)
LABELS = np.asarray([0, 0, 1, 0, 0, 0])


def reads(where):
    def classify(images, visible):
        seen = visible[:, where].mean(1)
        return np.stack([0.2 + seen, 1.1 - seen], 1)

    return classify


def test_the_object_is_found_by_who_reads_it():
    classifiers = {"object": reads(OBJECT), "elsewhere": reads(PARTS == 2)}
    objects = np.broadcast_to(OBJECT, (6, 8, 8))
    rows = lime_scores.lime_scores(
        classifiers, reads(OBJECT), IMAGES, LABELS, objects, lambda image: PARTS, top=1, num=200
    )
    good, bad = rows
    assert good["images"] == bad["images"] == 5  # one is wrong when whole
    assert good["jaccard"] == 1 and bad["jaccard"] == 0
    assert good["accuracy"] == 0 and bad["accuracy"] == 1
    assert good["cosine"] > 0.9 > 0.3 > bad["cosine"]


def test_no_right_image_gives_no_number():
    rows = lime_scores.lime_scores(
        {"a": reads(OBJECT)},
        reads(OBJECT),
        IMAGES[2:3],
        LABELS[2:3],
        np.broadcast_to(OBJECT, (1, 8, 8)),
        lambda image: PARTS,
    )
    assert rows[0]["images"] == 0 and np.isnan(rows[0]["accuracy"])


def test_parts():
    sums = lime_scores.segment_sums(OBJECT, PARTS)
    assert sums.sum() == pytest.approx(0) and sums.argmax() == 5
    assert sums[5] == pytest.approx(4 * (1 - 1 / 16))
    top = lime_scores.top_pixels(np.arange(16.0), PARTS, 2)
    np.testing.assert_array_equal(top, (PARTS == 15) | (PARTS == 14))
    assert lime_scores.jaccard(OBJECT, OBJECT) == 1
    assert lime_scores.jaccard(OBJECT & False, OBJECT & False) == 0
    assert lime_scores.cosine(np.zeros(3), np.ones(3)) == 0
