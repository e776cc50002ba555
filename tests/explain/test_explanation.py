"""From a run's test images to the rows of each test; the run is a stand-in."""

import types

import numpy as np
import pytest

from maskjax import explanation
from maskjax.errors import UserError

IMAGES = np.zeros((4, 8, 8, 1), np.uint8)
IMAGES[:, 2:4, 2:4] = 250
LABELS = np.zeros(4, int)


def middle(images, visible):
    """Class 0 as long as the bright square is seen; as features, what is seen of the image."""
    seen = visible[:, 2:4, 2:4].mean((1, 2))
    return np.stack([0.1 + seen, 0.9 - seen], 1)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(explanation, "_test_images", lambda run, num: (IMAGES[:num], LABELS[:num]))
    fake = lambda run, names, features=False: dict.fromkeys(names or ("grey", "layer"), middle)  # noqa: E731
    monkeypatch.setattr(explanation, "_classifiers", fake)
    return types.SimpleNamespace()


def test_scores_on_a_grid(run):
    rows = explanation.test(run, "scores", num=2, side=4)
    assert [row["masking"] for row in rows] == ["grey", "layer"]
    assert all(row["images"] == 2 and row["accuracy"] == 0 for row in rows)
    # The object is a square of 36 pixels, two rings wider than what is read: 9 cells of 16.
    inside, outside = 4 * (1 - 36 / 64), 4 * 36 / 64
    expected = inside / np.sqrt(9 * inside**2 + 7 * outside**2)
    assert all(row["cosine"] == pytest.approx(expected, abs=0.05) for row in rows)


def test_shape_finds_the_object_by_itself(run):
    (row, _) = explanation.test(run, "shape")
    assert row["object"] == 0 and row["broken"] == 1


@pytest.mark.parametrize("method, number", [("removal", 22), ("linearity", 2)])
def test_rows_of_the_others(method, number, run):
    assert len(explanation.test(run, method, ("grey", "layer"))) == number


def test_an_unknown_test(run):
    with pytest.raises(UserError, match="removal, shape, scores and linearity"):
        explanation.test(run, "sanity")
