"""Crop boxes, colours, RandAugment, erasing and CutMix beside torchvision and timm, given the same
random numbers."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="live parity needs PyTorch")
pytest.importorskip("torchvision", reason="live parity needs torchvision")

import jax.numpy as jnp
import torch
import torchvision.transforms.functional as functional
from torchvision import transforms

from maskjax.data import boxes, colour, randaugment, resize
from maskjax.data.erasing import RandomErasing
from maskjax.data.random import host_rng
from maskjax.data.sources.photos import photo
from maskjax.masking import Draws
from maskjax.targets.label_mixing import cut_boxes

PHOTO = photo("chelsea")
PICTURE = Image.fromarray(PHOTO)
FILL = (124, 116, 104)
NAMES = {
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "solarize_add": "SolarizeAdd",
    "saturation": "Color",
    "contrast": "Contrast",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}
INCREASING = ("posterize", "solarize", "saturation", "contrast", "brightness", "sharpness")


class Tape:
    """A generator that notes what it gave; in float32, as torch draws."""

    def __init__(self, number: int):
        self._rng, self.given = np.random.default_rng(number), []

    def random(self) -> float:
        self.given.append(float(np.float32(self._rng.random())))
        return self.given[-1]

    def integers(self, low: int, high: int) -> int:
        self.given.append(int(self._rng.integers(low, high)))
        return self.given[-1]


def test_boxes_are_those_of_torchvision(monkeypatch):
    """But where its float32 arithmetic rounds to another pixel: about 1 box in 10,000."""
    replayed = iter(())

    def uniform(self, low, high):
        return self.fill_(float(low) + (float(high) - float(low)) * next(replayed))

    monkeypatch.setattr(torch.Tensor, "uniform_", uniform)
    monkeypatch.setattr(torch, "randint", lambda low, high, size: torch.tensor([next(replayed)]))
    sizes, differing = np.random.default_rng(0), 0
    for number in range(3000):
        height, width = (int(side) for side in sizes.integers(20, 700, 2))
        scale = (0.08, 1.0) if number % 2 else (0.2, 1.0)
        tape = Tape(number)
        ours = boxes.random_resized_crop_box(tape, height, width, scale)
        replayed = iter(tape.given)
        picture = Image.new("L", (width, height))
        theirs = transforms.RandomResizedCrop.get_params(picture, scale, (3 / 4, 4 / 3))
        assert next(replayed, None) is None
        assert np.abs(np.subtract(ours, theirs)).max() <= 1
        differing += tuple(ours) != tuple(theirs)
    assert differing <= 3


@pytest.mark.parametrize("box", [(20, 30, 200, 260), (0, 0, 300, 451), (100, 5, 90, 120)])
def test_crops_have_the_same_pixels(box):
    theirs = functional.resized_crop(
        PICTURE, *box, [224, 224], transforms.InterpolationMode.BICUBIC
    )
    assert np.array_equal(resize.crop_and_resize(PHOTO, box, (224, 224)), np.asarray(theirs))


def test_colours_are_the_same():
    pairs = {
        colour.brightness: functional.adjust_brightness,
        colour.contrast: functional.adjust_contrast,
        colour.saturation: functional.adjust_saturation,
    }
    for ours, theirs in pairs.items():
        for factor in (0.0, 0.4, 1.0, 1.6):
            assert ours(PICTURE, factor).tobytes() == theirs(PICTURE, factor).tobytes()
    for turn in np.linspace(-0.5, 0.5, 21):
        theirs = functional.adjust_hue(PICTURE, turn)
        assert colour.hue(PICTURE, turn).tobytes() == theirs.tobytes()
    theirs = functional.rgb_to_grayscale(PICTURE, 3)
    assert colour.greyscale(PICTURE).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("increasing", [False, True])
def test_operations_are_those_of_timm(name, increasing, monkeypatch):
    """At every magnitude, in both directions. (Some versions of Pillow refuse timm's 0 bits.)"""
    timm = pytest.importorskip("timm.data.auto_augment")
    theirs = NAMES[name] + ("Increasing" if increasing and name in INCREASING else "")
    ours = randaugment.RandAugment(increasing=increasing, fill=FILL)
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    for magnitude in (0, 2.5, 5, 9, 9.4, 10):
        for sign, coin in ((1, 0.1), (-1, 0.9)):
            monkeypatch.setattr(timm.random, "random", lambda coin=coin: coin)
            operation = timm.AugmentOp(theirs, prob=1.0, magnitude=magnitude, hparams=hparams)
            try:
                expected = operation(PICTURE)
            except ValueError as error:
                assert name == "posterize" and "bits must be" in str(error)
                continue
            assert ours.apply(PICTURE, name, magnitude, sign).tobytes() == expected.tobytes()


def test_settings_mean_what_they_mean_to_timm():
    timm = pytest.importorskip("timm.data.auto_augment")
    assert list(randaugment.OPERATIONS) == list(NAMES)
    text = "m7-n3-p0.4-mstd0.5-mmax12-inc1"
    theirs, ours = timm.rand_augment_transform(f"rand-{text}", {}), randaugment.parse(text)
    assert theirs.num_layers == ours.num_layers
    assert len(theirs.ops) == len(randaugment.OPERATIONS)
    for operation, name in zip(theirs.ops, randaugment.OPERATIONS, strict=True):
        assert operation.name == NAMES[name] + ("Increasing" if name in INCREASING else "")
        assert (operation.magnitude, operation.prob) == (ours.magnitude, ours.prob)
        found = operation.magnitude_std, operation.magnitude_max
        assert found == (ours.magnitude_std, ours.magnitude_max)


def test_erased_areas_and_noise_follow_the_same_law():
    timm = pytest.importorskip("timm.data.random_erasing")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs, ours = (
        timm.RandomErasing(1.0, mode="pixel", device="cpu"),
        RandomErasing(1.0, mean, std),
    )
    image = np.full((96, 128, 3), 250, np.uint8)
    blank = torch.full((3, 96, 128), 9.0)
    areas, noise = ([], []), ([], [])
    timm.random.seed(0)
    torch.manual_seed(0)
    for number in range(1500):
        made = theirs(blank.clone()).permute(1, 2, 0).numpy()
        changed = (made != 9).any(2)
        areas[0].append(changed.mean())
        noise[0].append(made[changed])
        made = ours(image, host_rng(0, "erase", number))
        changed = (made != 250).any(2)
        areas[1].append(changed.mean())
        noise[1].append((made[changed] / 255 - mean) / std)
    shares = (0.1, 0.25, 0.5, 0.75, 0.9)
    assert np.abs(np.subtract(*(np.quantile(a, shares) for a in areas))).max() < 0.02
    inner = np.subtract(*(np.quantile(np.concatenate(n), shares) for n in noise))
    assert np.abs(inner).max() < 0.02


def test_cut_boxes_are_those_of_timm(monkeypatch):
    timm = pytest.importorskip("timm.data.mixup")
    rng = np.random.default_rng(0)
    share = rng.random(64).astype(np.float32)
    centre = rng.random((64, 2)).astype(np.float32)
    size = (57, 90)
    draws = Draws.replay({"mixing/centre": jnp.asarray(centre)})
    inside, area = cut_boxes(draws, jnp.asarray(share), size)
    for row in range(64):
        given = iter(np.floor(centre[row] * size).astype(int))
        monkeypatch.setattr(timm.np.random, "randint", lambda *_, given=given, **__: next(given))
        (top, bottom, left, right), kept = timm.cutmix_bbox_and_lam((3, *size), share[row])
        expected = np.zeros(size, bool)
        expected[top:bottom, left:right] = True
        assert np.array_equal(inside[row], expected)
        assert 1 - area[row] == pytest.approx(kept, abs=1e-6)
