"""Point clouds: every file form, choice of points, augmentation, ModelNet's layout."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_files import write
from streams import assert_one_stream

from maskjax.data.point_file import read_points, surface_points
from maskjax.data.points import PointsEval, PointsTrain, unit_sphere
from maskjax.data.source import resolve
from maskjax.errors import UserError

CLOUD = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
COORDINATES = st.floats(-1e3, 1e3, width=32)

SQUARE = "0 0 0\n2 0 0\n2 2 0\n0 2 0\n3 0 1 2\n3 0 2 3\n"
ASCII_PLY = """ply
format ascii 1.0
element vertex 2
property float x
property float y
property float z
property uchar red
end_header
1 2 3 255
4 5 6 0
"""


def saved(save, *args, **arrays):
    file = io.BytesIO()
    save(file, *args, **arrays)
    return file.getvalue()


def binary_ply(order):
    header = ASCII_PLY.partition("1 2 3")[0].replace("ascii", f"binary_{order}_endian")
    kind = "<" if order == "little" else ">"
    rows = np.zeros(2, [("xyz", f"{kind}f4", 3), ("red", "u1")])
    rows["xyz"] = [[1, 2, 3], [4, 5, 6]]
    return header.encode() + rows.tobytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.npy", saved(np.save, np.array([[1, 2, 3, 9], [4, 5, 6, 9]]))),
        ("x.NPZ", saved(np.savez, points=[[1, 2, 3], [4, 5, 6]], label=3)),
        ("x.npz", saved(np.savez, whatever=[[1.0, 2, 3], [4, 5, 6]])),
        ("x.ply", ASCII_PLY.encode()),
        ("x.ply", binary_ply("little")),
        ("x.ply", binary_ply("big")),
        ("x.obj", b"v 1 2 3\nv 4 5 6\n"),
    ],
)
def test_clouds_are_taken_as_they_are(tmp_path, name, data):
    write(tmp_path / name, data)
    points = read_points(str(tmp_path / name), name)
    assert points.dtype == np.float32
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("header", ["OFF\n4 2 0\n", "OFF4 2 0\n", "OFF 4 2 0\n"])
def test_meshes_become_points_of_their_surface(tmp_path, header):
    write(tmp_path / "x.off", (header + SQUARE).encode())
    points = read_points(str(tmp_path / "x.off"), "x")
    assert points.shape == (8192, 3)
    assert (points[:, 2] == 0).all()
    assert np.abs(np.histogram2d(*points[:, :2].T, bins=4)[0] / 512 - 1).max() < 0.2
    assert np.array_equal(points, read_points(str(tmp_path / "x.off"), "x"))
    assert not np.array_equal(points, read_points(str(tmp_path / "x.off"), "y"))


def test_large_triangles_get_more_points():
    small = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    triangles = np.stack([small, 3 * small + [10, 0, 0]])
    points = surface_points(triangles, 5000, np.random.default_rng(0))
    assert abs((points[:, 0] >= 10).mean() - 0.9) < 0.02
    inside = points[points[:, 0] < 10]
    assert (inside[:, 0] + inside[:, 1] <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.npy", b"?", "cannot read the points of .*x.npy"),
        ("x.npy", saved(np.save, np.zeros((4, 2))), r"wants points \[N, 3\], found \[4, 2\]"),
        (
            "x.npz",
            saved(np.savez, a=[1], b=[2]),
            r"one array named points .*found \['a', 'b'",
        ),
        ("x.off", b"OFF\n4 2 0\n1 1", "cannot read the points of .*x.off"),
    ],
)
def test_broken_files(tmp_path, name, data, message):
    write(tmp_path / name, data)
    with pytest.raises(UserError, match=message):
        read_points(str(tmp_path / name), name)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=COORDINATES))
def test_the_unit_sphere(points):
    made = unit_sphere(points)
    radii = np.linalg.norm(made.astype(np.float64), axis=1)
    assert np.isfinite(made).all()
    assert radii.max() <= 1 + 1e-5
    spread = np.ptp(points.astype(np.float64), axis=0).max()
    assert spread < 1e-3 or abs(radii.max() - 1) < 1e-5


@settings(deadline=None)
@given(st.integers(1, 130), st.integers(0, 2**32))
def test_points_are_chosen_without_repeats_while_they_last(num_points, seed):
    transform = PointsTrain(num_points, (1, 1), 0, normalize=False)
    made = transform({"points": CLOUD, "id": ""}, np.random.default_rng(seed))["points"]
    _, counts = np.unique(made, axis=0, return_counts=True)
    assert made.shape == (num_points, 3)
    assert counts.max() - (counts.min() if num_points >= 50 else 1) <= 1
    assert len(counts) == min(num_points, 50)
    assert {tuple(point) for point in made} <= {tuple(point) for point in CLOUD}


def test_training_stretches_and_shifts_by_axis():
    example = {"points": CLOUD, "id": ""}
    plain = PointsTrain(50, (1, 1), 0)(example, np.random.default_rng(4))["points"]
    made = PointsTrain(50)(example, np.random.default_rng(4))["points"]
    for axis in range(3):
        factor, distance = np.polyfit(plain[:, axis], made[:, axis], 1)
        assert 2 / 3 <= factor <= 3 / 2
        assert abs(distance) <= 0.2
        assert np.abs(plain[:, axis] * factor + distance - made[:, axis]).max() < 1e-5


def test_evaluation_depends_on_the_id_only():
    one, two = (PointsEval(20)({"points": CLOUD, "id": name})["points"] for name in ("a", "b"))
    assert np.array_equal(one, PointsEval(20)({"points": CLOUD, "id": "a"})["points"])
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PointsTrain(4, (0, 1)), r"config.data.points.scale = \(0, 1\)"),
        (lambda: PointsTrain(4, shift=-1), r"config.data.points.shift = -1"),
        (lambda: PointsEval(4)({"points": np.full((3, 3), np.nan), "id": "x"}), "'x': some coord"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize("layout", ["{split}/{kind}/{n}.npy", "{kind}/{split}/{n}.npy"])
def test_folders(tmp_path, layout):
    for n, (split, kind) in enumerate([("train", "a"), ("train", "b"), ("test", "b")]):
        path = layout.format(split=split, kind=kind, n=n)
        write(tmp_path / path, saved(np.save, CLOUD + n))
    train, test = (resolve(f"points:{tmp_path}", split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("a", "b")
    assert [train[0]["label"], train[1]["label"], test[0]["label"]] == [0, 1, 1]
    assert np.array_equal(test[0]["points"], CLOUD + 2)
    assert test.ids() == [layout.format(split="test", kind="b", n=2)]
    with pytest.raises(UserError, match="has no split 'val'"):
        resolve(f"points:{tmp_path}", "val")


def test_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, points_train=np.stack([CLOUD] * 3), label_train=[[2], [0], [1]])
    source = pickle.loads(pickle.dumps(resolve(f"points:{path}", "train")))
    assert [len(source), source[0]["label"], source[1]["id"]] == [3, 2, "000001"]
    with pytest.raises(UserError, match="has no array points_test and no points"):
        resolve(f"points:{path}", "test")
    np.savez(path, points=np.zeros((3, 4, 2)))
    with pytest.raises(UserError, match=r"points must be \[N, P, 3\], found \[3, 4, 2\]"):
        resolve(f"points:{path}", "train")
    np.savez(path, points=np.zeros((3, 4, 3)), label=[0.5, 1, 2])
    with pytest.raises(UserError, match=r"label must be 3 integers, found float64 \[3\]"):
        resolve(f"points:{path}", "train")


def test_one_stream_for_every_number_of_processes(tmp_path):
    np.savez(tmp_path / "x.npz", points=np.stack([CLOUD, CLOUD + 1, CLOUD * 2]), label=[0, 1, 2])
    transform = pickle.loads(pickle.dumps(PointsTrain(30)))
    made = assert_one_stream(f"points:{tmp_path}/x.npz", transform)
    assert len(np.unique(made["points"].reshape(12, -1), axis=0)) == 12
