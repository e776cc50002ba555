"""npz:FILE, its splits, and what it says about arrays that do not fit."""

import pickle

import numpy as np
import pytest

from maskjax.data.source import resolve
from maskjax.errors import UserError

GREY = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def save(path, **arrays) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_whole_file_is_every_split(tmp_path):
    spec = save(tmp_path / "a.npz", image=GREY, label=np.array([2, 0, 1]))
    for split in ("train", "test"):
        source = resolve(spec, split)
        assert [source[i]["label"] for i in range(len(source))] == [2, 0, 1]
        assert np.array_equal(source[1]["image"], GREY[1][..., None])
        assert source[1]["id"] == "000001"


def test_splits_by_key(tmp_path):
    colour = np.repeat(GREY[..., None], 5, -1)
    spec = save(tmp_path / "a.npz", image_train=colour, label_train=np.arange(3), image_val=GREY)
    assert resolve(spec, "train")[2]["image"].shape == (4, 5, 5)
    assert "label" not in resolve(spec, "val")[0]
    with pytest.raises(UserError, match="no array image_test; its splits are: train, val"):
        resolve(spec, "test")


def test_loads_in_each_process_for_itself(tmp_path):
    source = resolve(save(tmp_path / "a.npz", image=np.zeros((9, 64, 64, 3), np.uint8)), "train")
    assert len(source) == 9
    assert source[8]["image"].shape == (64, 64, 3)
    assert len(pickle.dumps(source)) < 2000
    assert np.array_equal(pickle.loads(pickle.dumps(source))[3]["image"], source[3]["image"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GREY}, "no array 'image' and no 'image_train'; it holds: images"),
        ({"image": GREY.astype(np.float32)}, r"image must be uint8 .* found float32 \(3, 4, 5\)"),
        ({"image": GREY[0]}, r"image must be uint8 .* found uint8 \(4, 5\)"),
        ({"image": GREY[:0]}, r"image is empty, its shape is \(0, 4, 5\)"),
        ({"image": GREY, "label": np.zeros(3)}, r"label must be integers .* found float64"),
        ({"image": GREY, "label": np.arange(2)}, r"integers of shape \(3,\).* found int64 \(2,\)"),
        ({"image": np.array([None])}, "image must be uint8 .* found object"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message) as error:
        resolve(save(tmp_path / "a.npz", **arrays), "train")
    assert str(tmp_path / "a.npz") in str(error.value)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UserError, match=f"there is no file {tmp_path}/a.npz"):
        resolve(f"npz:{tmp_path}/a.npz", "train")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(UserError, match="is not an npz file that numpy can read"):
        resolve(f"npz:{tmp_path}/b.npz", "train")
