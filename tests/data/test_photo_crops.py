"""The embedded photographs and the crops of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskjax.data import embed_photos
from maskjax.data.source import resolve
from maskjax.data.sources.photo_crops import CROPS, TILE, crop_corners, tiles
from maskjax.data.sources.photos import NAMES, photo, photo_bytes
from maskjax.errors import UserError

ROOT = Path(__file__).parents[2]


def cover(corners: np.ndarray, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool[H, W]: the pixels that squares of a size at these corners touch."""
    touched = np.zeros(shape[:2], bool)
    for top, left in corners:
        assert 0 <= top <= shape[0] - size
        assert 0 <= left <= shape[1] - size
        touched[top : top + size, left : left + size] = True
    return touched


@pytest.mark.parametrize("name", NAMES)
def test_no_pixel_is_in_both_splits(name):
    shape = photo(name).shape
    train, test = (cover(tiles(name, split), TILE, shape) for split in ("train", "test"))
    assert not (train & test).any()
    for split, tile in (("train", train), ("test", test)):
        for size in (20, 32, TILE):
            crops = cover(crop_corners(name, split, size), size, shape)
            assert not (crops & ~tile).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_quarter_of_the_tiles_is_test(name):
    train, test = len(tiles(name, "train")), len(tiles(name, "test"))
    assert train + test == (photo(name).shape[0] // TILE) * (photo(name).shape[1] // TILE)
    assert abs(test - (train + test) / 4) <= 0.5


def test_crops_stay_inside_one_tile():
    for name in NAMES:
        within = crop_corners(name, "train", 32) % TILE
        assert within.max() <= TILE - 32


def test_items():
    source = resolve("photo_crops", "test")
    labels = [source[i]["label"] for i in range(len(source))]
    assert labels == [k for k in range(18) for _ in range(CROPS["test"])]
    assert len({source[i]["id"] for i in range(len(source))}) == len(source)
    top, left = crop_corners("coffee", "test", 32)[7]
    item = source[NAMES.index("coffee") * 60 + 7]
    assert item["id"] == "coffee/test/007"
    assert np.array_equal(item["image"], photo("coffee")[top : top + 32, left : left + 32])


def test_crops_are_pinned():
    """A change here changes the scores of every run on photo_crops: it must be on purpose."""
    corners = np.stack([crop_corners(name, "train", 32) for name in NAMES])
    assert corners[0, :2].tolist() == [[474, 387], [215, 73]]
    assert corners.sum(axis=(0, 1)).tolist() == [1307858, 1653138]


@pytest.mark.parametrize("argument", ["0", "65", "big", "-3", "3.5"])
def test_crop_size(argument):
    with pytest.raises(UserError, match=r"photo_crops:.*: the crop size must be 1 \.\. 64 pixels"):
        resolve(f"photo_crops:{argument}", "train")


def test_photos_are_small_jpegs_with_a_licence_line_each():
    text = (ROOT / "LICENSES-data.md").read_text()
    listed = re.findall(r"^\| (\w+)\.jpg \|", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(NAMES) == list(NAMES)
    files = (ROOT / "maskjax/data/photos").glob("*.jpg")
    assert sorted(path.stem for path in files) == list(NAMES)
    for name in NAMES:
        assert photo_bytes(name)[:2] == b"\xff\xd8"
        assert max(photo(name).shape) <= 512
        assert photo(name).shape[2] == 3


@pytest.mark.parametrize("name", ["camera", "chelsea", "motorcycle", "flower"])
def test_embedded_files_are_what_the_script_makes(name):
    try:
        made = embed_photos.reduced(name)
    except UserError as error:
        pytest.skip(f"making the photographs needs {error}")
    made = np.asarray(made.convert("RGB")).astype(int)
    assert np.abs(made - photo(name)).mean() < 6, "JPEG loses a little, not this much"


def test_script_writes_files(tmp_path, monkeypatch):
    monkeypatch.setattr(embed_photos, "NAMES", ("coins",))
    monkeypatch.setattr("sys.argv", ["embed_photos", "--out", str(tmp_path / "new")])
    try:
        embed_photos.main()
    except UserError as error:
        pytest.skip(f"making the photographs needs {error}")
    with Image.open(tmp_path / "new/coins.jpg") as picture:
        assert (picture.size, picture.mode) == ((384, 303), "L")
