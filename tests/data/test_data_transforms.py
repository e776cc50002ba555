"""Crop boxes, resizing, flipping, and the two pipelines made of them."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from image_files import encode
from PIL import Image

from maskjax.data import boxes, resize
from maskjax.data.random import host_rng
from maskjax.data.transforms import EvalTransform, TrainTransform
from maskjax.errors import UserError

sides = st.integers(1, 400)
seeds = st.integers(0, 2**32)
scales = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)
ratios = st.tuples(st.floats(0.2, 1), st.floats(1, 5))


def box_by_definition(rng, height, width, scale, ratio):
    """RandomResizedCrop of torchvision, written from its description.

    At most ten tries. Area: uniform share of the image. Aspect ratio: exp of a uniform number
    between the logs of the bounds. Width = round(sqrt(area * aspect)), height = round(sqrt(area /
    aspect)). Accept if both fit, at a uniform integer place. Otherwise the central crop: the whole
    image, with the side shortened that makes the image too wide or too tall.
    """
    log_ratio = [math.log(bound) for bound in ratio]
    for _ in range(10):
        area = height * width * rng.uniform(scale[0], scale[1])
        aspect = math.exp(rng.uniform(log_ratio[0], log_ratio[1]))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            i = rng.integers(0, height - h, endpoint=True)
            j = rng.integers(0, width - w, endpoint=True)
            return (i, j, h, w), False
    w, h = width, height
    if width / height < min(ratio):
        h = round(w / min(ratio))
    elif width / height > max(ratio):
        w = round(h * max(ratio))
    return ((height - h) // 2, (width - w) // 2, h, w), True


@settings(deadline=None)
@given(sides, sides, scales, ratios, seeds)
def test_boxes_are_those_of_the_definition(height, width, scale, ratio, seed):
    box = boxes.random_resized_crop_box(
        host_rng(seed, "crop", 0), height, width, tuple(scale), ratio
    )
    expected, _ = box_by_definition(host_rng(seed, "crop", 0), height, width, scale, ratio)
    assert box == expected


@settings(deadline=None)
@given(sides, sides, scales, ratios, seeds)
def test_boxes_lie_inside_the_image(height, width, scale, ratio, seed):
    rng = host_rng(seed, "crop", 0)
    top, left, h, w = boxes.random_resized_crop_box(rng, height, width, tuple(scale), ratio)
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h > 0
    assert w > 0


@settings(deadline=None)
@given(sides, sides, scales, ratios, seeds)
def test_area_and_ratio_are_in_range_up_to_rounding(height, width, scale, ratio, seed):
    rngs = (host_rng(seed, "crop", 0) for _ in range(2))
    (_, _, h, w), fallback = box_by_definition(next(rngs), height, width, scale, ratio)
    assume(not fallback)
    assert boxes.random_resized_crop_box(next(rngs), height, width, scale, ratio)[2:] == (h, w)
    area = height * width
    assert (h - 0.5) * (w - 0.5) <= scale[1] * area * (1 + 1e-9)
    assert (h + 0.5) * (w + 0.5) >= scale[0] * area * (1 - 1e-9)
    assert (w - 0.5) / (h + 0.5) <= ratio[1] * (1 + 1e-9)
    assert (w + 0.5) / (h - 0.5) >= ratio[0] * (1 - 1e-9)


def test_distribution_of_the_boxes():
    """Area uniform, log of the aspect ratio uniform (scale 0.2 .. 0.5: every try fits)."""
    rng = host_rng(0, "crop", 0)
    found = np.array(
        [boxes.random_resized_crop_box(rng, 1000, 1000, (0.2, 0.5)) for _ in range(4000)]
    )
    share = found[:, 2] * found[:, 3] / 1e6
    aspect = np.log(found[:, 3] / found[:, 2])
    for values, low, high in ((share, 0.2, 0.5), (aspect, math.log(3 / 4), math.log(4 / 3))):
        quartiles = np.quantile(values, [0.25, 0.5, 0.75])
        expected = low + (high - low) * np.array([0.25, 0.5, 0.75])
        assert np.abs(quartiles - expected).max() < 0.03 * (high - low)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(100, 10, (43, 0, 13, 10)), (10, 100, (0, 43, 10, 13)), (10, 10, (0, 0, 10, 10))],
)
def test_fallback_is_centred(height, width, box):
    assert boxes.fallback_box(height, width, (3 / 4, 4 / 3)) == box


def test_resize_is_that_of_pillow():
    image = host_rng(0, "noise", 0).integers(0, 256, (40, 30, 3), np.uint8)
    expected = Image.fromarray(image).resize((20, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(resize.resize(image, (16, 20)), np.asarray(expected))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channel_counts_are_resized_one_by_one(channels):
    image = host_rng(0, "noise", 1).integers(0, 256, (20, 30, channels), np.uint8)
    resized = resize.resize(image, (9, 11), "bilinear")
    assert resized.shape == (9, 11, channels)
    for c in range(channels):
        alone = Image.fromarray(image[..., c]).resize((11, 9), Image.Resampling.BILINEAR)
        assert np.array_equal(resized[..., c], np.asarray(alone))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 90),
)
def test_evaluation_crop_has_the_size_for_any_image(height, width, h, w, extra):
    image = np.zeros((height, width, 1), np.uint8)
    short = min(h, w) + extra if extra else 0
    assert resize.cover_and_crop(image, (h, w), short, "nearest").shape == (h, w, 1)


@pytest.mark.parametrize(("height", "width"), [(300, 451), (451, 300), (64, 64), (100, 257)])
def test_square_evaluation_is_resize_and_centre_crop_of_torchvision(height, width):
    """Resize(256): the short side becomes 256, the long one int(256 * long / short)."""
    image = host_rng(0, "noise", 2).integers(0, 256, (height, width, 3), np.uint8)
    h, w = height * 256 // min(height, width), width * 256 // min(height, width)
    resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    top, left = round((h - 224) / 2), round((w - 224) / 2)
    expected = resized[top : top + 224, left : left + 224]
    transform = EvalTransform((224, 224), 256)
    assert np.array_equal(transform({"image": image, "id": ""}), expected)


def test_a_wide_target_keeps_the_shape_of_things():
    """A centred square stays square and centred when the target is wide."""
    image = np.zeros((200, 200, 1), np.uint8)
    image[80:120, 80:120] = 255
    out = EvalTransform((40, 80), channels=1)({"image": image, "id": ""})[..., 0] > 127
    rows, columns = np.flatnonzero(out.any(1)), np.flatnonzero(out.any(0))
    assert (rows[0], rows[-1]) == (12, 27)
    assert (columns[0], columns[-1]) == (32, 47)


def example(height, width, channels=3):
    image = host_rng(0, "noise", 3).integers(0, 256, (height, width, channels), np.uint8)
    return {"image": image, "id": "noise"}


def test_an_image_of_the_right_size_is_passed_unchanged():
    item = example(24, 32)
    rng = host_rng(0, "augment", 0)
    train = TrainTransform((24, 32), crop=False, flip=False)
    assert np.array_equal(train(item, rng), item["image"])
    assert np.array_equal(EvalTransform((24, 32))(item), item["image"])
    assert np.array_equal(EvalTransform((24, 32), resize=24)(item), item["image"])


def test_half_of_the_images_are_flipped():
    transform = TrainTransform((4, 4), crop=False)
    item = example(4, 4)
    flipped = [
        not np.array_equal(transform(item, host_rng(0, "augment", i)), item["image"])
        for i in range(400)
    ]
    assert 150 < sum(flipped) < 250
    index = flipped.index(True)
    mirrored = transform(item, host_rng(0, "augment", index))
    assert np.array_equal(mirrored, item["image"][:, ::-1])


def test_train_transform_crops_resizes_and_flips():
    item = example(50, 70)
    transform = TrainTransform((16, 20), scale=(0.1, 0.6))
    rng = host_rng(1, "augment", 5)
    mirrored = rng.random() < 0.5
    box, _ = box_by_definition(rng, 50, 70, (0.1, 0.6), (3 / 4, 4 / 3))
    expected = resize.resize(boxes.crop(item["image"], box), (16, 20))
    expected = expected[:, ::-1] if mirrored else expected
    got = transform(item, host_rng(1, "augment", 5))
    assert np.array_equal(got, expected)
    assert got.flags.c_contiguous
    again = pickle.loads(pickle.dumps(transform))
    assert np.array_equal(again(item, host_rng(1, "augment", 5)), got)


@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_images_get_the_channels_of_the_model(channels):
    data = {"image": encode(example(30, 20)["image"]), "id": "a"}
    rng = host_rng(0, "augment", 0)
    assert TrainTransform((8, 8), channels=channels)(data, rng).shape == (8, 8, channels)
    assert EvalTransform((8, 8), channels=channels)(data).shape == (8, 8, channels)


def test_arrays_of_any_channel_count_pass():
    item = example(30, 20, 5)
    out = TrainTransform((8, 8), channels=5)(item, host_rng(0, "augment", 0))
    assert out.shape == (8, 8, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 4)}, r"image size must be .* found \(0, 4\)"),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'; .* it is one of: nearest"),
        ({"scale": (0.5, 0.2)}, r"crop scale must be .* found \(0.5, 0.2\)"),
        ({"scale": (0.0, 0.2)}, "crop scale must be"),
        ({"scale": (0.5, 1.2)}, "crop scale must be"),
        ({"ratio": (2.0, 1.0)}, "crop ratio must be"),
        ({"channels": 0}, "channels must be at least 1"),
    ],
)
def test_train_transform_checks_its_values(options, message):
    with pytest.raises(UserError, match=message):
        TrainTransform(**{"size": (8, 8), **options})


def test_eval_transform_checks_its_values():
    with pytest.raises(UserError, match=r"resize 200 is smaller than the image size \(224, 300\)"):
        EvalTransform((224, 300), 200)


def test_a_broken_image_is_named():
    with pytest.raises(UserError, match=r"cannot decode image 'train/x.jpg'"):
        EvalTransform((8, 8))({"image": b"???", "id": "train/x.jpg"})
