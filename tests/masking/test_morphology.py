"""Dilate, erode, outline, area, holes, boxes and pyramids against loops and scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskjax.masking import boxes, morphology, patches, pyramid

SETTINGS = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
windows = st.sampled_from([1, 2, 3, 4, (1, 3), (5, 2)])
SHAPE = (2, 7, 9)


def random_mask(seed, share=0.5, shape=SHAPE):
    return np.random.default_rng(seed).uniform(size=shape) < share


def by_window(mask, size, reduce, outside):
    """Pixel by pixel; a window of k spans -k // 2 .. k - 1 - k // 2."""
    rows, columns = (size, size) if isinstance(size, int) else size
    out = np.zeros_like(mask)
    for b, i, j in np.ndindex(mask.shape):
        window = [
            mask[b, y, x] if 0 <= y < mask.shape[1] and 0 <= x < mask.shape[2] else outside
            for y in range(i - rows // 2, i - rows // 2 + rows)
            for x in range(j - columns // 2, j - columns // 2 + columns)
        ]
        out[b, i, j] = reduce(window)
    return out


@SETTINGS
@given(seeds, windows)
def test_dilate_and_erode(seed, size):
    mask = random_mask(seed, 0.3)
    grown = np.asarray(morphology.dilate(mask, size))
    np.testing.assert_array_equal(grown, by_window(mask, size, any, False))
    np.testing.assert_array_equal(morphology.erode(~mask, size), ~grown)
    shrunk = np.asarray(morphology.erode(mask, size))
    np.testing.assert_array_equal(shrunk, by_window(mask, size, all, True))
    assert (shrunk <= mask).all()
    assert (mask <= grown).all()
    if size == 1:
        np.testing.assert_array_equal(shrunk, mask)


@pytest.mark.parametrize(("a", "b"), [(2, 3), (3, 3), (5, 4)])
def test_two_erosions_are_one(a, b):
    """Of two even sizes both lean to the upper left, so one at most is even here."""
    mask = random_mask(1, 0.95, (4, 20, 20))
    twice = morphology.erode(morphology.erode(mask, a), b)
    np.testing.assert_array_equal(twice, morphology.erode(mask, a + b - 1))
    assert (np.asarray(morphology.erode(mask, 5)) <= np.asarray(morphology.erode(mask, 3))).all()


def test_any_number_of_leading_axes():
    mask = random_mask(2, 0.3, (2, 3, 5, 6))
    found = morphology.dilate(mask, 3)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[i, j], morphology.dilate(mask[i, j], 3))


def test_outline():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    inner, outer = (morphology.outline(mask, side=side) for side in ("inner", "outer"))
    assert inner.sum() == 25 - 9
    assert outer.sum() == 49 - 25
    assert not (inner & outer).any()
    np.testing.assert_array_equal(morphology.outline(mask, side="both"), inner | outer)
    assert morphology.area(mask) == 25
    assert not morphology.outline(np.ones((4, 4), bool)).any()


@SETTINGS
@given(seeds, st.floats(0.3, 0.8))
def test_holes_are_scipys(seed, share):
    mask = random_mask(seed, share, (3, 11, 14))
    filled = np.stack([ndimage.binary_fill_holes(m) for m in mask])
    np.testing.assert_array_equal(morphology.fill_holes(mask), filled)
    np.testing.assert_array_equal(morphology.holes(mask), filled & ~mask)


def spiral(size):
    """A wall that winds inwards, one pixel wide, with a way of one pixel beside it."""
    wall = np.ones((size, size), bool)
    i, j, di, dj = 0, 1, 1, 0
    wall[0, 1] = False
    while True:
        ahead = (i + 2 * di, j + 2 * dj)
        if not (1 <= i + di < size - 1 and 1 <= j + dj < size - 1) or (
            0 <= ahead[0] < size and 0 <= ahead[1] < size and not wall[ahead]
        ):
            di, dj = -dj, di
            if not (
                0 <= i + 2 * di < size and 0 <= j + 2 * dj < size and wall[i + 2 * di, j + 2 * dj]
            ):
                return wall
        i, j = i + di, j + dj
        wall[i, j] = False


def test_the_outside_may_wind_its_way_in():
    wall = spiral(21)
    assert (~wall).sum() > 150
    assert not morphology.holes(wall).any()
    closed = wall.copy()
    closed[0, 1] = True
    np.testing.assert_array_equal(morphology.holes(closed), ~closed)
    few = morphology.holes(wall, num_sweeps=2)
    assert few.any()
    np.testing.assert_array_equal(morphology.holes(wall, num_sweeps=21 * 21 // 4 + 1), False)


@SETTINGS
@given(seeds, st.floats(0, 0.2))
def test_boxes_around_masks(seed, share):
    mask = random_mask(seed, share)
    found = np.asarray(boxes.from_mask(mask))
    assert found.dtype == np.int32
    for one, box in zip(mask, found, strict=True):
        rows, columns = np.nonzero(one)
        expected = [0, 0, 0, 0]
        if len(rows):
            expected = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        np.testing.assert_array_equal(box, expected)
    inside = np.asarray(boxes.to_mask(found, SHAPE[1:]))
    assert (mask <= inside).all()
    np.testing.assert_array_equal(boxes.from_mask(inside), found)
    np.testing.assert_array_equal(boxes.area(found), inside.sum((1, 2)))


def test_boxes_that_reach_out_or_are_empty():
    given_boxes = jnp.array([[-3, 2, 4, 99], [5, 5, 5, 9], [6, 3, 2, 9], [0.6, 0.4, 2.4, 1.6]])
    found = np.asarray(boxes.to_mask(given_boxes, (7, 9)))
    assert found[0, :4, 2:].all()
    assert found[0].sum() == 4 * 7
    assert not found[1:3].any()
    # Pixels whose centre is inside: rows 1.5 (not 0.5), columns 0.5 and 1.5.
    np.testing.assert_array_equal(np.argwhere(found[3]), [[1, 0], [1, 1]])
    np.testing.assert_array_equal(boxes.area(given_boxes[1:3]), 0)
    clipped = boxes.clip(given_boxes, (7, 9))
    np.testing.assert_array_equal(clipped[0], [0, 2, 4, 9])
    np.testing.assert_array_equal(boxes.to_mask(clipped, (7, 9)), found)


def test_expand_and_snap():
    box = jnp.array([17, 30, 32, 33])
    np.testing.assert_array_equal(boxes.snap(box, 16), [16, 16, 32, 48])
    np.testing.assert_array_equal(boxes.expand(box, 2), [15, 28, 34, 35])
    with pytest.raises(ValueError, match="multiple must be >= 1"):
        boxes.snap(box, 0)


@SETTINGS
@given(seeds, st.sampled_from([1, 2, (2, 3)]))
def test_enlarge_shrink_and_share(seed, factor):
    cells = random_mask(seed)
    pixels = pyramid.enlarge(cells, factor)
    pair = (factor, factor) if isinstance(factor, int) else factor
    flat = patches.to_pixels(cells.reshape(2, -1), SHAPE[1:], pair)
    np.testing.assert_array_equal(pixels, flat)
    for rule in ("any", "all"):
        np.testing.assert_array_equal(pyramid.shrink(pixels, factor, rule=rule), cells)
    np.testing.assert_array_equal(pyramid.share(pixels, factor), cells)
    mixed = random_mask(seed, shape=(2, 12, 12))
    blocks = mixed.reshape(2, 12 // pair[0], pair[0], 12 // pair[1], pair[1])
    np.testing.assert_array_equal(pyramid.shrink(mixed, factor), blocks.any((2, 4)))
    np.testing.assert_array_equal(pyramid.shrink(mixed, factor, rule="all"), blocks.all((2, 4)))
    np.testing.assert_allclose(pyramid.share(mixed, factor), blocks.mean((2, 4)), atol=1e-6)


def test_a_pyramid_shows_the_same_mask_everywhere():
    cells = random_mask(0, shape=(2, 3, 4))
    levels = pyramid.pyramid(cells, (96, 128), (1, 4, 8, 16, 32))
    assert {s: m.shape for s, m in levels.items()} == {
        s: (2, 96 // s, 128 // s) for s in (1, 4, 8, 16, 32)
    }
    for stride, level in levels.items():
        np.testing.assert_array_equal(pyramid.enlarge(level, stride), levels[1])
    np.testing.assert_array_equal(levels[32], cells)
    again = pyramid.pyramid(levels[1], (96, 128), (32, 8), rule="all")
    np.testing.assert_array_equal(again[32], cells)
    np.testing.assert_array_equal(again[8], levels[8])


def test_coarser_by_each_rule():
    mask = np.zeros((4, 6), bool)
    mask[0, 0] = mask[2:, 3:] = True
    at = lambda rule, size=(2, 2): pyramid.at_size(mask, size, rule=rule).tolist()  # noqa: E731
    assert at("any") == [[True, False], [False, True]]
    assert at("all") == [[False, False], [False, True]]
    assert at("nearest") == [[True, False], [False, True]]
    assert at("any", (8, 3)) == np.repeat(mask.reshape(4, 3, 2).any(-1), 2, 0).tolist()


@pytest.mark.parametrize("size", [(3, 4), (7, 9), (13, 5), (14, 18)])
def test_nearest_takes_the_cell_of_torch(size):
    mask = random_mask(0)
    found = pyramid.nearest(mask, size)
    for i, j in np.ndindex(*size):
        cell = mask[:, i * 7 // size[0], j * 9 // size[1]]
        np.testing.assert_array_equal(found[:, i, j], cell)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: morphology.dilate(m, 0), "size must be >= 1, got 0"),
        (lambda m: morphology.outline(m, side="left"), "one of inner, outer, both, got 'left'"),
        (lambda m: pyramid.shrink(m, 2), r"factor \(2, 2\) does not divide the size \(7, 9\)"),
        (lambda m: pyramid.shrink(m, (7, 3), rule="most"), "'any' or 'all', got 'most'"),
        (lambda m: pyramid.share(m, 0), "does not divide"),
        (lambda m: pyramid.at_size(m, (3, 9)), "rule='nearest'"),
        (lambda m: pyramid.pyramid(m, (14, 18), (4,)), "stride 4 does not divide the image"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mask(0))


@pytest.mark.parametrize(
    "call", [lambda m: morphology.dilate(m, 3), morphology.holes, boxes.from_mask, morphology.area]
)
def test_only_boolean_masks(call):
    with pytest.raises(AssertionError):
        call(np.ones((4, 4), np.float32))
