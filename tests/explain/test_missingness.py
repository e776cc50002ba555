"""The tests of missing pixels, on classifiers whose answers are known."""

import numpy as np
import pytest

from maskjax.explain import missingness
from maskjax.explain.segments import grid

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (20, 8, 8, 3), np.uint8)
WHOLE = np.ones((20, 8, 8), bool)


def by_share(images, visible):
    """Class 1 where half or less of the image is visible."""
    share = visible.mean((1, 2))
    return np.stack([share, 1 - share + 1e-6], 1)


def fixed(images, visible):
    return np.tile([0.9, 0.1], (len(images), 1))


def test_removal_counts_what_changes():
    rows = missingness.removal(
        {"share": by_share, "fixed": fixed}, IMAGES, np.zeros(20, int), side=4, batch=8
    )
    of = {name: [r for r in rows if r["masking"] == name] for name in ("share", "fixed")}
    assert [r["hidden"] for r in of["share"]] == [i / 10 for i in range(11)]
    assert [r["unchanged"] for r in of["share"]] == [1.0] * 5 + [0.0] * 6
    assert [r["accuracy"] for r in of["share"]] == [r["unchanged"] for r in of["share"]]
    assert all(r["unchanged"] == 1 and r["entropy"] == 0 for r in of["fixed"])


def test_larger_fractions_hide_all_that_smaller_ones_do():
    parts = grid((8, 8), 4)
    less, more = (missingness.removal_masks(20, parts, f, seed=1) for f in (0.25, 0.5))
    assert ((~less) <= (~more)).all()
    np.testing.assert_allclose((~less).mean((1, 2)), 0.25)
    assert missingness.removal_masks(20, parts, 0.0).all()
    assert not missingness.removal_masks(20, parts, 1.0).any()
    assert len(np.unique(less.reshape(20, -1), axis=0)) > 10


def test_entropy_in_bits():
    assert missingness.entropy(np.asarray([0, 1, 2, 3]), 4) == pytest.approx(2)
    assert missingness.entropy(np.asarray([3, 3]), 4) == 0


def test_a_leak_of_the_shape_is_seen():
    """One classifier reads the outline of what is hidden, the other nothing but visible pixels."""
    objects = np.zeros((20, 8, 8), bool)
    labels = np.arange(20) % 2
    objects[labels == 0, 1:3, 1:7] = objects[labels == 1, 1:7, 1:3] = True
    images = np.where(objects[..., None], 255, 0).astype(np.uint8)

    def wide(mask):
        return mask.any(1).sum(1) > mask.any(2).sum(1)

    def of_shape(images, visible):
        # Whole images are told by their pixels.
        mask = np.where(visible.all((1, 2))[:, None, None], images[..., 0] > 0, ~visible)
        return np.stack([wide(mask), ~wide(mask)], 1).astype(float)

    def of_pixels(images, visible):
        mask = (images[..., 0] > 0) & visible
        return np.stack([wide(mask), ~wide(mask)], 1).astype(float)

    rows = missingness.shape_leak(
        {"shape": of_shape, "pixels": of_pixels}, images, labels, objects, batch=7
    )
    leak, none = rows
    assert leak["images"] == none["images"] == 20
    assert leak["object"] == 1.0
    # Without the object nothing is left: always class 1.
    assert none["object"] == 0.5


def test_broken_masks_keep_their_area():
    mask = RNG.random((3, 8, 10)) < 0.3
    found = missingness.broken(mask)
    np.testing.assert_array_equal(found.sum((1, 2)), mask.sum((1, 2)))
    np.testing.assert_array_equal(found[:, :4, :5], mask[:, 4:, 5:])


def test_objects_by_threshold():
    image = np.full((20, 20, 1), 10, np.uint8)
    image[8:10, 5:9] = 200
    found = missingness.object_mask(image)
    expected = np.zeros((20, 20), bool)
    expected[6:12, 3:11] = True
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(missingness.object_mask(255 - image), expected)
    assert not missingness.object_mask(np.full((4, 4, 1), 7, np.uint8)).any()


def test_what_adds_up_is_linear():
    def sums(images, visible):
        return (images[..., 0] * visible).reshape(len(images), -1).astype(float)

    def squares(images, visible):
        return sums(images, visible) + 50 * visible.mean((1, 2))[:, None] ** 2 * np.arange(64)

    linear, other = missingness.linearity({"a": sums, "b": squares}, IMAGES, batch=8)
    assert linear["cosine"] == pytest.approx(1) and linear["distance"] == pytest.approx(0)
    assert other["distance"] > 0.01
