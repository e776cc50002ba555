"""Pairs, modalities, videos and point clouds on an object store."""

import io
import pickle

import numpy as np
import pytest
from image_files import encode
from test_video import film

from maskjax.data import files
from maskjax.data.pairs import PairEval
from maskjax.data.points import PointsEval
from maskjax.data.source import resolve
from maskjax.data.subset import select_ids
from maskjax.data.video import Clip, VideoEval


@pytest.fixture(scope="module")
def store():
    """An in-memory fsspec file system: (path, bytes) -> None."""
    system = files.filesystem("memory://kinds")

    def put(path, data):
        system.pipe_file(f"memory://kinds/{path}", data)

    return put


def first(spec, split="train"):
    return pickle.loads(pickle.dumps(resolve(spec.format("memory://kinds"), split)))[0]


def test_pairs_and_tables(store):
    images = [np.full((4, 4, 3), level, np.uint8) for level in (10, 20)]
    for view, image in zip(("left", "right"), images, strict=True):
        store(f"pairs/train/{view}/a.png", encode(image))
    store("pairs/list.csv", b"train/right/a.png,train/left/a.png\n")
    for spec, levels in (("pairs:{}/pairs", [10, 20]), ("pairs:{}/pairs/list.csv", [20, 10])):
        made = PairEval((4, 4))(first(spec))
        assert [int(made[name][0, 0, 0]) for name in ("image", "other")] == levels


def test_modalities(store):
    for name in ("rgb", "depth"):
        store(f"modalities/train/{name}/a.png", encode(np.zeros((4, 4, 3), np.uint8)))
    assert set(first("modalities:{}/modalities")["modalities"]) == {"rgb", "depth"}


def test_videos(store, tmp_path):
    film(tmp_path / "x.mp4", 9)
    store("video/train/jump/x.mp4", (tmp_path / "x.mp4").read_bytes())
    example = first("video:{}/video")
    made = VideoEval(Clip(3, 2), (32, 48))(example)["video"]
    local = resolve(f"video:{tmp_path}", "all")[0]
    assert np.array_equal(made, VideoEval(Clip(3, 2), (32, 48))(local)["video"])
    assert example["label"] == 0


def test_points(store):
    cloud, array = np.random.default_rng(0).normal(size=(9, 3)), io.BytesIO()
    np.save(array, cloud)
    store("points/train/a/x.npy", array.getvalue())
    arrays = io.BytesIO()
    np.savez(arrays, points=cloud[None], label=[4])
    store("points/x.npz", arrays.getvalue())
    one, other = first("points:{}/points"), first("points:{}/points/x.npz")
    assert np.allclose(one["points"], other["points"])
    assert [one["label"], other["label"]] == [0, 4]
    assert PointsEval(5)(one)["points"].shape == (5, 3)


def test_a_list_of_ids(store):
    for name in ("a", "b"):
        store(f"ids/train/x/{name}.png", b"")
    store("ids/few.txt", b"b.png\n")
    chosen = select_ids(resolve("folder:memory://kinds/ids", "train"), "memory://kinds/ids/few.txt")
    assert chosen.ids() == ["train/x/b.png"]
