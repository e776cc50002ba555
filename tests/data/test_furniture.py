"""Furniture libraries of Sweet Home 3D: kinds by name, points of the surface, what is refused."""

import pickle
import zipfile

import numpy as np
import pytest

from maskjax.data.source import kind_of_spec, resolve
from maskjax.data.sources.furniture import WORDS
from maskjax.errors import UserError

pytest.importorskip("trimesh")
# A square in the plane y = HEIGHT: y is upwards there.
MESH = "v 0 {0} 0\nv 2 {0} 0\nv 2 {0} 1\nv 0 {0} 1\nf 1 2 3\nf 1 3 4\n"


def library(path, names):
    lines = ["# a comment", "id=x"]
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names, 1):
            lines += [f"name#{number}={name}", f"model#{number}=/m{number}/m{number}.obj"]
            file.writestr(f"m{number}/m{number}.obj", MESH.format(number))
        file.writestr("PluginFurnitureCatalog.properties", "\n".join(lines))


@pytest.fixture
def folder(tmp_path):
    library(tmp_path / "a.sh3f", ["Coffee table", "Table lamp", "Vase", "Sofa bed", "Armchair"])
    library(tmp_path / "b.sh3f", ["Bedside table", "Tablecloth", "Office chair"])
    return tmp_path


def test_kinds_are_the_last_telling_word_of_the_name(folder):
    source = resolve(f"furniture:{folder}", "train")
    test = resolve(f"furniture:{folder}", "test")
    assert (len(source), len(test), kind_of_spec("furniture")) == (5, 1, "points")
    examples = [source[index] for index in range(5)] + [test[0]]
    kinds = {example["id"]: source.class_names[example["label"]] for example in examples}
    assert kinds == {
        "a/m1/m1.obj": "table",
        "a/m2/m2.obj": "lamp",
        "a/m4/m4.obj": "bed",
        "a/m5/m5.obj": "sofa",
        "b/m1/m1.obj": "table",
        "b/m3/m3.obj": "chair",
    }
    assert source.class_names == tuple(WORDS) and not set(source.ids()) & set(test.ids())


def test_points_lie_on_the_surface_with_z_upwards_and_are_kept(folder):
    source = resolve(f"furniture:{folder}", "train")
    for index, name in enumerate(source.ids()):
        points = source[index]["points"]
        assert points.shape == (8192, 3) and points.dtype == np.float32
        height = int(name.split("/m")[1][0])
        np.testing.assert_allclose(points[:, 2], height, atol=1e-6)
        assert points[:, 0].min() >= 0 and points[:, 0].max() <= 2
        assert points[:, 1].min() >= -1 and points[:, 1].max() <= 0
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[0]["points"], source[0]["points"])


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match="sh3f files with furniture in"):
        resolve(f"furniture:{tmp_path}", "train")
    (tmp_path / "x.sh3f").write_bytes(b"?")
    with pytest.raises(UserError, match="is no furniture library"):
        resolve(f"furniture:{tmp_path}", "train")
    with pytest.raises(UserError, match="no split 'val'"):
        resolve("furniture", "val")
