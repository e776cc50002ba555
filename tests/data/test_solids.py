"""Made-up clouds."""

import pickle

import numpy as np
import pytest

from maskjax.data.solids import SOLIDS, box, revolved
from maskjax.data.source import kind_of_spec, resolve
from maskjax.errors import UserError


def area(triangles):
    sides = triangles[:, 1:] - triangles[:, :1]
    return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2


def test_solids_have_the_surface_of_their_name():
    assert area(box((0, 0, 0), (1, 2, 3))) == pytest.approx(2 * (2 + 3 + 6))
    side = 2 * np.sin(np.pi / 24)  # of a circle with 24 corners
    assert area(revolved((1, 1), (0, 2))) == pytest.approx(24 * side * 2)
    for make in SOLIDS.values():
        triangles = make(np.random.default_rng(0))
        assert triangles.shape[1:] == (3, 3) and np.isfinite(triangles).all()


def test_clouds_are_the_same_at_every_reading_and_of_every_kind():
    train, test = (resolve("shapes:64", split) for split in ("train", "test"))
    assert (len(train), len(test), kind_of_spec("shapes")) == (1600, 400, "points")
    again = pickle.loads(pickle.dumps(train))
    for index in range(9):
        example = train[index]
        assert example["points"].shape == (64, 3) and example["points"].dtype == np.float32
        np.testing.assert_array_equal(example["points"], again[index]["points"])
        assert example["label"] == index % 8 and example["id"] == train.ids()[index]
    assert train.class_names == tuple(SOLIDS)
    assert not np.array_equal(train[0]["points"], test[0]["points"])
    assert not np.array_equal(train[0]["points"], train[8]["points"])


def test_a_cylinder_stands_upright():
    points = resolve("shapes:512", "test")[2]["points"]
    assert np.hypot(points[:, 0], points[:, 1]).max() <= 1 + 1e-5
    assert points[:, 2].min() == 0


@pytest.mark.parametrize("spec", ["shapes:0", "shapes:many"])
def test_what_is_refused(spec):
    with pytest.raises(UserError, match="wants a number of points"):
        resolve(spec, "train")
    with pytest.raises(UserError, match="no split 'val'"):
        resolve("shapes", "val")
