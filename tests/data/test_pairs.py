"""Pairs: layouts, crops apart and shared, mirrored stereo."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encode, write
from streams import assert_one_stream

from maskjax.data.colour import ColorJitter
from maskjax.data.crops import RandomView
from maskjax.data.pairs import PairEval, PairTrain
from maskjax.data.photo import Photo
from maskjax.data.source import kind_of_spec, resolve
from maskjax.errors import UserError

NEAREST = Photo(interpolation="nearest")


@pytest.fixture
def stereo_folder(tmp_path):
    """DIR/train/{left,right}/{a,b/c}.png; the right image is the left one, moved by 2 pixels."""
    rng = np.random.default_rng(0)
    for name in ("a", "b/c"):
        wide = rng.integers(0, 256, (12, 18, 3), np.uint8)
        write(tmp_path / f"train/left/{name}.png", encode(wide[:, :16]))
        write(tmp_path / f"train/right/{name}.png", encode(wide[:, 2:]))
    return tmp_path


def test_two_folders(stereo_folder):
    source = resolve(f"pairs:{stereo_folder}", "train")
    assert source.ids() == ["train/left/a.png", "train/left/b/c.png"]
    assert [source[0]["stereo"], source.kind, source.class_names] == [True, "pair", None]
    made = PairEval((12, 16))(source[1])
    assert np.array_equal(made["image"][:, 2:], made["other"][:, :-2])


def test_a_table(stereo_folder):
    (stereo_folder / "list.csv").write_text(
        "image,other,label,split\n"
        "train/left/a.png,train/right/a.png,road,train\n"
        "train/left/a.png,train/left/b/c.png,field,train\n"
        "train/left/b/c.png,train/right/a.png,road,test\n"
    )
    source = resolve(f"pairs:{stereo_folder}/list.csv", "train")
    assert source.ids() == [
        "train/left/a.png train/right/a.png",
        "train/left/a.png train/left/b/c.png",
    ]
    assert [source[n]["label"] for n in (0, 1)] == [1, 0]
    assert source.class_names == ("field", "road")
    assert "stereo" not in source[0]
    (stereo_folder / "bare.csv").write_text("train/left/a.png,train/right/a.png\n")
    assert "label" not in resolve(f"pairs:{stereo_folder}/bare.csv", "test")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "train/right/a.png").unlink(), "right lacks 1 of the 2 .*left: a"),
        (lambda root: (root / "train/up").mkdir(), "must hold two folders, one for each view"),
        (lambda root: write(root / "train/left/a.jpg", b""), "both a.jpg and a.png"),
    ],
)
def test_folders_that_do_not_fit(stereo_folder, change, message):
    change(stereo_folder)
    with pytest.raises(UserError, match=message):
        resolve(f"pairs:{stereo_folder}", "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,other\na.png\n", "line 2: wants image,other, found 'a.png'"),
        ("image,other,depth\na,b,c\n", "unknown column 'depth'"),
        ("image,other,split\na,b,test\n", "has no split 'train'; it has test"),
        ("", "is empty"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        resolve(f"pairs:{tmp_path}/list.csv", "train")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_a_shared_crop_shows_the_same_place(seed, flip, stereo):
    """Two pictures of the same scene stay equal; mirrored stereo pairs change places."""
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    example = {"image": image, "other": 255 - image, "id": "", "stereo": stereo}
    view = RandomView((8, 8), flip=flip)
    made = PairTrain(view, photo=NEAREST, shared_crop=True)(example, np.random.default_rng(seed))
    drawn = view(np.random.default_rng(seed), 20, 30)
    expected = drawn.image(image, (8, 8), NEAREST)
    assert np.array_equal(made["image"], 255 - made["other"])
    swapped = drawn.mirrored and stereo
    assert np.array_equal(made["other"] if swapped else made["image"], expected)


def test_crops_of_their_own_are_mirrored_together():
    ramp = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[:, None], (30, 30, 3)).copy()
    ramp = ramp.transpose(1, 0, 2)
    example = {"image": ramp, "other": ramp, "id": ""}
    transform, alike = PairTrain(RandomView((8, 8))), 0
    for seed in range(20):
        made = transform(example, np.random.default_rng(seed))
        rising = [int(made[name][0, -1, 0]) > int(made[name][0, 0, 0]) for name in made]
        assert rising[0] == rising[1]
        alike += np.array_equal(made["image"], made["other"])
    assert alike < 3


def test_disparity_keeps_its_sign(stereo_folder):
    """The scene moves to the left from "image" to "other", mirrored or not."""
    source = resolve(f"pairs:{stereo_folder}", "train")
    view = RandomView((12, 16), crop=False)
    mirrored = 0
    for seed in range(10):
        made = PairTrain(view, shared_crop=True)(source[0], np.random.default_rng(seed))
        assert np.array_equal(made["image"][:, 2:], made["other"][:, :-2])
        mirrored += view(np.random.default_rng(seed), 12, 16).mirrored
    assert 0 < mirrored < 10


def test_one_crop_wants_one_size():
    example = {"image": np.zeros((9, 9, 3), np.uint8), "other": np.zeros((9, 8, 3), np.uint8)}
    with pytest.raises(UserError, match=r"pairs.shared_crop\) wants one size, found \(9, 9\)"):
        PairTrain(RandomView((4, 4)), shared_crop=True)(
            {**example, "id": "x"}, np.random.default_rng(0)
        )


def test_each_image_has_colours_of_its_own():
    image = np.full((20, 20, 3), 100, np.uint8)
    photo = Photo(stages=(ColorJitter(0.4),))
    transform = PairTrain(RandomView((8, 8)), photo)
    made = transform({"image": image, "other": image, "id": ""}, np.random.default_rng(0))
    levels = {int(picture[0, 0, 0]) for picture in made.values()}
    assert len(levels) == 2
    assert 100 not in levels


def test_one_stream_for_every_number_of_processes():
    assert kind_of_spec("stereo:64") == "pair"
    transform = pickle.loads(pickle.dumps(PairTrain(RandomView((16, 16)))))
    made = assert_one_stream("stereo:64", transform)
    assert not np.array_equal(made["image"], made["other"])


def test_the_real_stereo_pair():
    train, test = resolve("stereo", "train"), resolve("stereo", "test")
    assert (len(train), len(test)) == (400, 60)
    assert train[7]["image"].shape == train[7]["other"].shape == (96, 96, 3)
    assert train.corners[:, 0].max() + 96 <= 375 <= test.corners[:, 0].min()
    # What is seen moves to the left: the best match of a strip lies there.
    left, right = train.pictures["image"].astype(int), train.pictures["other"].astype(int)
    moves = range(-60, 61, 2)
    strip = left[150:300, 300:440]
    costs = [np.abs(strip - right[150:300, 300 + m : 440 + m]).mean() for m in moves]
    assert -60 < moves[int(np.argmin(costs))] < 0
    with pytest.raises(UserError, match=r"stereo:126: the crop size must be 1 .. 125"):
        resolve("stereo:126", "train")
