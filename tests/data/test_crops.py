"""Views: one crop and flip for aligned arrays of several kinds and resolutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data.crops import MultiScaleView, RandomView, View, centre_view, check_aligned
from maskjax.data.resize import cover_and_crop
from maskjax.data.transforms import TrainTransform
from maskjax.errors import UserError

SIDE = st.integers(1, 60)
SIZE = st.tuples(st.integers(1, 20), st.integers(1, 20))


def coordinates(height, width):
    """float64[H, W, 2]: the centre of each pixel, as a share of the picture."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return np.stack(np.broadcast_arrays(rows[:, None], columns), axis=-1)


@settings(deadline=None)
@given(SIDE, SIDE, SIZE, st.integers(0, 2**32), st.booleans())
def test_nearest_takes_the_value_under_the_centre(height, width, size, seed, crop):
    view = RandomView(size, crop=crop)(np.random.default_rng(seed), height, width)
    seen = view.nearest(coordinates(height, width), size)
    top, left, box_height, box_width = view.box
    rows = (top + (np.arange(size[0]) + 0.5) / size[0] * box_height) / view.frame[0]
    columns = (left + (np.arange(size[1]) + 0.5) / size[1] * box_width) / view.frame[1]
    columns = columns[::-1] if view.mirrored else columns
    assert np.abs(seen[..., 0] - rows[:, None]).max() <= 0.5 / height + 1e-9
    assert np.abs(seen[..., 1] - columns).max() <= 0.5 / width + 1e-9


@settings(deadline=None)
@given(SIDE, SIDE, SIZE, st.integers(1, 4), st.integers(0, 2**32))
def test_a_finer_array_is_seen_at_the_same_place(height, width, size, times, seed):
    view = RandomView(size)(np.random.default_rng(seed), height, width)
    coarse = view.nearest(coordinates(height, width), size)
    fine = view.nearest(coordinates(height * times, width * times), size)
    assert np.abs(coarse - fine).max() <= 0.5 / min(height, width) + 1e-9


@settings(deadline=None, max_examples=30)
@given(SIDE, SIDE, SIZE, st.integers(0, 2**32), st.booleans())
def test_images_are_seen_as_by_the_transform_of_single_images(height, width, size, seed, crop):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    transform = TrainTransform(size, crop=crop)
    expected = transform({"image": image, "id": ""}, np.random.default_rng(seed))
    view = RandomView(size, crop=crop)(np.random.default_rng(seed), height, width)
    assert np.array_equal(view.image(image, size), expected)


@settings(deadline=None, max_examples=30)
@given(SIDE, SIDE, SIZE, st.integers(0, 30))
def test_the_centre_is_that_of_the_evaluation_transform(height, width, size, short_side):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    view = centre_view(height, width, size, short_side)
    assert np.array_equal(view.image(image, size), cover_and_crop(image, size, short_side))


def test_the_identity():
    labels = np.arange(12).reshape(3, 4)
    whole = View((0, 0, 3, 4), (3, 4))
    assert np.array_equal(whole.nearest(labels, (3, 4)), labels)
    assert np.array_equal(whole._replace(mirrored=True).nearest(labels, (3, 4)), labels[:, ::-1])


@given(st.integers(16, 99), st.integers(16, 99), st.integers(0, 2**32))
def test_multi_scale_boxes_lie_inside_and_have_neighbouring_scales(height, width, seed):
    draw = MultiScaleView((4, 4))
    top, left, h, w = draw(np.random.default_rng(seed), height, width).box
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    sides = [int(min(height, width) * scale) for scale in draw.scales]
    assert any({h, w} <= {a, b} for a, b in zip(sides, [sides[0], *sides], strict=False))


def test_multi_scale_takes_a_side_that_is_nearly_right():
    boxes = [
        MultiScaleView((224, 224))(np.random.default_rng(n), 256, 340).box[2:] for n in range(40)
    ]
    assert {side for box in boxes for side in box} == {256, 224, 192, 168}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomView((4, 4), scale=(0, 1)), "crop scale"),
        (lambda: RandomView((4, 4), ratio=(2, 1)), "crop ratio"),
        (lambda: MultiScaleView((4, 4), ()), r"config.data.video.scales = \(\)"),
        (lambda: check_aligned(["a", "b"], [(40, 40), (40, 44)], "x"), "'x': b has 40 x 44"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_quarter_that_was_rounded_is_aligned():
    check_aligned(["rgb", "semseg"], [(427, 640, 3), (107, 160)], "x")
