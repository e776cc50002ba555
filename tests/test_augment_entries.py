"""`config.data` -> the training and evaluation transforms."""

import pytest

from maskjax import data_parts
from maskjax.config import default_config, restored_config
from maskjax.data.colour import Blur, ColorJitter, Greyscale
from maskjax.data.erasing import RandomErasing
from maskjax.data.randaugment import RandAugment
from maskjax.data.three_augment import ThreeAugment
from maskjax.errors import UserError


def config(**data):
    made = default_config("mim.mae")
    made.data.update(data)
    return made


def test_nothing_is_on_by_default():
    transform = data_parts.train_transform(config())
    assert transform.stages == ()
    assert transform.erasing is None
    assert (transform.resample, transform.interpolation) == ("pillow", "bicubic")


def test_the_recipe_of_fine_tuning():
    transform = data_parts.train_transform(config(randaugment="rand-m9-mstd0.5-inc1", erase=0.25))
    # timm fills with the mean of ImageNet: (124, 116, 104).
    fill = (124, 116, 104)
    assert transform.stages == (RandAugment(9.0, magnitude_std=0.5, increasing=True, fill=fill),)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert transform.erasing == RandomErasing(0.25, mean, std)


def test_the_recipe_of_deit_iii_and_the_order_of_the_stages():
    entries = {"three_augment": True, "color_jitter": (0.3, 0.3, 0.3, 0.0)}
    stages = data_parts.train_transform(config(**entries, greyscale=0.2, blur=0.5)).stages
    assert [type(stage) for stage in stages] == [ThreeAugment, ColorJitter, Greyscale, Blur]
    assert stages[1:] == (ColorJitter(0.3, 0.3, 0.3), Greyscale(0.2), Blur(0.5))


def test_evaluation_is_antialiased_whatever_training_does():
    made = config(resample="opencv", interpolation="area", max_pixels=1000, decoder="pillow")
    assert data_parts.train_transform(made).resample == "opencv"
    transform = data_parts.eval_transform(made)
    assert (transform.resample, transform.interpolation) == ("pillow", "box")
    assert (transform.decoding.decoder, transform.decoding.max_pixels) == ("pillow", 1000)


@pytest.mark.parametrize(
    "entry, value, message",
    [
        ("randaugment", "m9-x3", r"data\.randaugment: RandAugment 'm9-x3': 'x3' is not one of"),
        ("color_jitter", (0.3, 0.3), r"data\.color_jitter: wants \(brightness, contrast"),
        ("color_jitter", (0.3, 0.3, 0.3, 0.9), r"data\.color_jitter: color jitter must be"),
        ("greyscale", 2.0, r"data\.greyscale: the share .* must be in 0 .. 1, found 2"),
        ("blur", -0.5, r"data\.blur: the share of blurred pictures"),
        ("erase", 1.5, r"data\.erase: the share of erased images"),
        ("decoder", "opencv", r"data\.decoder, max_pixels: unknown decoder 'opencv'"),
        ("max_pixels", 0, r"data\.decoder, max_pixels: max_pixels must be in"),
        ("resample", "cv2", r"data\.crop_scale, .*resample, .*: unknown resample 'cv2'"),
        ("reducing_gap", 0.5, "reducing_gap must be 0 or at least 1, found 0.5"),
    ],
)
def test_errors_name_the_entry(entry, value, message):
    with pytest.raises(UserError, match=rf"^config\..*{message}"):
        data_parts.train_transform(config(**{entry: value}))


def test_a_run_from_before_an_entry_existed_gets_its_default():
    saved = config(blur=0.5).to_dict()
    del saved["data"]["erase"], saved["train"]["log_every"]
    restored = restored_config(saved)
    assert (restored.data.erase, restored.data.blur, restored.train.log_every) == (0.0, 0.5, 50)
