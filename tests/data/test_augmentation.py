"""Colour operations, RandAugment, 3-Augment and erasing: laws, settings, determinism."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskjax.data import colour, geometric, randaugment
from maskjax.data.erasing import RandomErasing, erasing_box
from maskjax.data.random import host_rng
from maskjax.data.sources.photos import photo
from maskjax.data.three_augment import ThreeAugment
from maskjax.data.transforms import TrainTransform
from maskjax.errors import UserError

PHOTO = photo("coffee")[:120, :160]
PICTURE = Image.fromarray(PHOTO)
GREY = PICTURE.convert("L")
FILL = (124, 116, 104)


def values(picture):
    return np.asarray(picture).astype(int)


def rng(i=0, stream="augment"):
    return host_rng(0, stream, i)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
def test_enhancements_are_blends(factor):
    """result = other + factor * (picture - other), clipped; each has its own other picture."""
    luma = values(GREY)[..., None].repeat(3, 2)
    others = {colour.brightness: 0, colour.contrast: round(luma.mean()), colour.saturation: luma}
    for operation, other in others.items():
        expected = np.clip(other + factor * (PHOTO.astype(float) - other), 0, 255)
        assert np.abs(values(operation(PICTURE, factor)) - expected).max() <= 2


def test_pointwise_operations():
    x = PHOTO.astype(int)
    assert np.array_equal(values(colour.invert(PICTURE)), 255 - x)
    assert np.array_equal(values(colour.solarize(PICTURE, 100)), np.where(x < 100, x, 255 - x))
    added = np.where(x < 128, np.minimum(255, x + 40), x)
    assert np.array_equal(values(colour.solarize_add(PICTURE, 40)), added)
    for bits in range(9):
        assert np.array_equal(values(colour.posterize(PICTURE, bits)), x >> 8 - bits << 8 - bits)
    stretched = values(colour.autocontrast(PICTURE))
    assert (stretched.min((0, 1)) == 0).all()
    assert (stretched.max((0, 1)) == 255).all()
    assert (np.ptp(values(colour.greyscale(PICTURE)), axis=2) == 0).all()


def test_equalize_flattens_the_histogram():
    shares = [np.quantile(values(colour.equalize(GREY)), q) / 255 for q in (0.25, 0.5, 0.75)]
    assert np.abs(np.array(shares) - (0.25, 0.5, 0.75)).max() < 0.05


def test_a_whole_turn_of_the_hue_changes_nothing_more_than_none():
    none = values(colour.hue(PICTURE, 0.0))
    red = Image.new("RGB", (2, 2), (200, 0, 0))
    assert np.abs(none - PHOTO).max() <= 6  # the way to HSV and back
    assert values(colour.hue(red, 1 / 3))[0, 0].argmax() == 1
    assert values(colour.hue(red, -1 / 3))[0, 0].argmax() == 2
    assert colour.hue(GREY, 0.3) is GREY


def test_geometry_moves_as_it_says():
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))
    picture = Image.fromarray(ramp)
    inner = slice(30, 70)
    shifted = values(geometric.translate_x(picture, 0.1, (0,)))
    assert np.array_equal(shifted[:, :60], ramp[:, 10:70].astype(int))
    turned = values(geometric.rotate(picture, 90, (0,)))
    assert np.array_equal(turned, np.rot90(ramp))
    sheared = values(geometric.shear_x(picture, 0.1, (0,)))
    moved = sheared[:, inner] - ramp[:, inner]
    assert np.abs(moved - (0.2 * np.arange(100) + 0.1)[:, None]).max() <= 1
    down = values(geometric.translate_y(picture.rotate(90), 0.1, (0,)))
    assert np.array_equal(down[:60], values(picture.rotate(90))[10:70])
    assert values(geometric.rotate(PICTURE, 45, FILL))[0, 0].tolist() == list(FILL)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_flip(channels):
    image = rng().integers(0, 256, (7, 9, channels), np.uint8)
    assert np.array_equal(geometric.flip_horizontally(image), image[:, ::-1])


# What timm's laws give for increasing=1: the argument at magnitude 5 and 9, with sign -1.
LAWS = {
    "rotate": (-15.0, -27.0),
    "posterize": (2, 1),
    "solarize": (128, 26),
    "solarize_add": (55, 99),
    "saturation": (0.55, 0.19),
    "contrast": (0.55, 0.19),
    "brightness": (0.55, 0.19),
    "sharpness": (0.55, 0.19),
    "shear_x": (-0.15, -0.27),
    "shear_y": (-0.15, -0.27),
    "translate_x": (-0.225, -0.405),
    "translate_y": (-0.225, -0.405),
}


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_laws_of_the_magnitude(name):
    _, law, _ = randaugment.OPERATIONS[name]
    if law is None:
        assert name in ("autocontrast", "equalize", "invert")
        return
    assert [law(m / 10, -1, True) for m in (5, 9)] == pytest.approx(LAWS[name])


def test_first_laws():
    laws = {name: law for name, (_, law, _) in randaugment.OPERATIONS.items()}
    assert [laws["posterize"](m / 10, 1, False) for m in (0, 5, 10)] == [0, 2, 4]
    assert [laws["solarize"](m / 10, 1, False) for m in (0, 5, 10)] == [0, 128, 256]
    assert [laws["contrast"](m / 10, 1, False) for m in (0, 10)] == pytest.approx([0.1, 1.9])


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
@pytest.mark.parametrize("picture", [PICTURE, GREY], ids=["colour", "grey"])
def test_every_operation_takes_every_magnitude(name, picture):
    augment = randaugment.parse("m9-mstd0.5-inc1", FILL)
    changed = False
    for magnitude in (0, 5, 9, 10):
        out = augment.apply(picture, name, magnitude)
        assert (out.size, out.mode) == (picture.size, picture.mode)
        changed |= out.tobytes() != picture.tobytes()
    assert changed or (name == "saturation" and picture is GREY)


def test_settings_in_words():
    augment = randaugment.parse("rand-m9-mstd0.5-inc1", FILL)
    assert augment == randaugment.RandAugment(9, magnitude_std=0.5, increasing=True, fill=FILL)
    assert randaugment.parse("n3-m7-p1-mmax12-inc0").num_layers == 3
    for wrong in ("m", "9", "m9,inc1", "x3", "m9-w0", "m9--inc1", "augmix-m3"):
        with pytest.raises(UserError, match="is not one of m, n, p, mstd, mmax, inc"):
            randaugment.parse(wrong)
    with pytest.raises(UserError, match="n of RandAugment must be at least 1, found 0"):
        randaugment.parse("n0")
    with pytest.raises(UserError, match=r"p of RandAugment must be in 0 .. 1, found 2.0"):
        randaugment.parse("p2")


class Recorder(randaugment.RandAugment):
    """Notes what is applied instead of applying it."""

    def apply(self, picture, name, magnitude, sign=1):
        self.__dict__.setdefault("log", []).append((name, magnitude, sign))
        return picture


def test_how_operations_are_drawn():
    """Two layers, each with probability one half; magnitude normal around 9, clipped at 10."""
    augment = Recorder(9.0, magnitude_std=0.5, increasing=True)
    for i in range(2000):
        augment(PICTURE, rng(i))
    names, magnitudes, signs = zip(*augment.__dict__["log"], strict=True)
    assert 1900 < len(names) < 2100
    counts = [names.count(name) for name in randaugment.OPERATIONS]
    assert min(counts) > 90 and max(counts) < 180  # 133 expected
    assert np.median(magnitudes) == pytest.approx(9, abs=0.05)
    assert np.quantile(magnitudes, 0.16) == pytest.approx(8.5, abs=0.06)
    assert max(magnitudes) == 10
    assert abs(np.mean(signs)) < 0.1


def test_jitter_draws_the_same_whatever_is_switched_off():
    """Brightness alone gives what brightness gives inside a full jitter; 0 changes nothing."""
    alone = colour.ColorJitter(brightness=0.4)
    for i in range(5):
        draws = rng(i)
        draws.random()
        factor = draws.uniform(0.6, 1.4)
        expected = colour.brightness(PICTURE, factor)
        assert alone(PICTURE, rng(i)).tobytes() == expected.tobytes()
    assert colour.ColorJitter()(PICTURE, rng()) is PICTURE


def test_jitter_applies_all_parts_in_random_order():
    jitter = colour.ColorJitter(0.4, 0.4, 0.4, 0.1)
    results = {jitter(PICTURE, rng(i)).tobytes() for i in range(20)}
    assert len(results) == 20
    steps = colour.brightness, colour.contrast, colour.saturation, colour.hue
    draws = rng(3)
    draws.random()
    factors = [draws.uniform(0.6, 1.4) for _ in range(3)] + [draws.uniform(-0.1, 0.1)]
    expected = PICTURE
    for k in draws.permutation(4):
        expected = steps[k](expected, factors[k])
    assert jitter(PICTURE, rng(3)).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: colour.ColorJitter(0.9, prob=p),
        colour.Greyscale,
        lambda p: colour.Blur(p, (1.0, 2.0)),
    ],
)
def test_share_of_changed_pictures(make):
    stage = make(0.3)
    small = PICTURE.crop((0, 0, 16, 16))
    changed = sum(stage(small, rng(i)).tobytes() != small.tobytes() for i in range(600))
    assert 130 < changed < 230


def test_three_augment_takes_each_third():
    small = PICTURE.crop((40, 40, 72, 72))
    stage, seen = ThreeAugment(), []
    for i in range(300):
        out = stage(small, rng(i))
        if np.ptp(values(out), axis=2).max() == 0:
            seen.append("grey")
        elif out.tobytes() == colour.solarize(small).tobytes():
            seen.append("solarize")
        else:
            seen.append("blur")
    assert all(75 < seen.count(kind) < 125 for kind in ("grey", "solarize", "blur"))


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 10**6))
def test_erased_boxes_lie_inside(height, width, i):
    box = erasing_box(rng(i), height, width)
    if box is not None:
        top, left, h, w = box
        assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width


def test_law_of_the_erased_area():
    """Uniform in 0.02 .. 1/3 where every box fits."""
    areas = []
    for i in range(3000):
        _, _, h, w = erasing_box(rng(i), 400, 400, (0.02, 0.2), (0.5, 2.0))
        areas.append(h * w / 400**2)
    expected = 0.02 + 0.18 * np.array([0.25, 0.5, 0.75])
    assert np.abs(np.quantile(areas, [0.25, 0.5, 0.75]) - expected).max() < 0.006


def test_erasing_fills_a_box_with_normal_noise():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    erase = RandomErasing(0.25, mean, std)
    image = np.zeros((64, 64, 3), np.uint8)
    erased, noise = 0, []
    for i in range(1000):
        out = erase(image, rng(i))
        if out is image:
            continue
        erased += 1
        rows, columns = np.flatnonzero(out.any((1, 2))), np.flatnonzero(out.any((0, 2)))
        box = out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        noise.append((box.reshape(-1, 3) / 255 - mean) / std)
    assert not image.any()
    assert 200 < erased < 300
    noise = np.concatenate(noise)
    # The tails beyond black and white are cut off: a standard deviation of 0.97.
    assert np.abs(noise.mean(0)).max() < 0.02
    assert np.abs(noise.std(0) - 0.97).max() < 0.02


def full_transform(**options):
    stages = (
        randaugment.parse("m9-mstd0.5-inc1", FILL),
        colour.ColorJitter(0.3, 0.3, 0.3, 0.1, prob=0.8),
        colour.Blur(0.5),
    )
    return TrainTransform((48, 40), stages=stages, erasing=RandomErasing(0.5), **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_augmentation_depends_on_the_generator_alone(channels):
    item = {"image": PHOTO, "id": "coffee"}
    transform = full_transform(channels=channels)
    again = pickle.loads(pickle.dumps(transform))
    results = [transform(item, rng(i)) for i in range(6)]
    assert all(r.shape == (48, 40, channels) and r.flags.c_contiguous for r in results)
    for i in reversed(range(6)):
        assert np.array_equal(again(item, rng(i)), results[i])
    assert len({r.tobytes() for r in results}) == 6


def test_stages_do_not_change_crop_and_flip():
    item = {"image": PHOTO, "id": "coffee"}
    plain, inverted = TrainTransform((32, 32)), TrainTransform((32, 32), stages=(invert,))
    for i in range(4):
        assert np.array_equal(inverted(item, rng(i)), 255 - plain(item, rng(i)))


def invert(picture, draws):
    return colour.invert(picture)


def test_colour_needs_colours():
    with pytest.raises(UserError, match="colour augmentation needs images of 1 or 3 channels"):
        TrainTransform((8, 8), channels=5, stages=(ThreeAugment(),))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: colour.ColorJitter(-0.1), "none negative and hue at most 0.5"),
        (lambda: colour.ColorJitter(hue=0.6), "none negative and hue at most 0.5"),
        (lambda: colour.ColorJitter(0.1, prob=1.1), "probability of color jitter must be in 0"),
        (lambda: colour.Greyscale(-1), "share of greyscale pictures must be in 0 .. 1, found -1"),
        (lambda: colour.Blur(2), "share of blurred pictures"),
        (lambda: RandomErasing(1.5), "share of erased images"),
        (lambda: RandomErasing(0.5, std=(0.0,)), "std must be positive"),
    ],
)
def test_values_are_checked(make, message):
    with pytest.raises(UserError, match=message):
        make()
