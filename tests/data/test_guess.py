"""A bare path is the source that what is there tells."""

import layout_files as layouts
import pytest
from image_files import write

from maskjax.data.guess import guess
from maskjax.data.source import resolve
from maskjax.errors import UserError

WRITERS = {
    "folder": layouts.write_folder,
    "wds": layouts.write_wds,
    "parquet": layouts.write_parquet,
    "array_record": layouts.write_msgpack,
    "npz": layouts.write_npz,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_by_what_a_writer_left(tmp_path, kind, monkeypatch):
    spec = WRITERS[kind](tmp_path / "set")
    bare = spec.removeprefix(f"{kind}:")
    assert guess(bare) == kind
    assert len(resolve(bare, "train")) == layouts.NUM
    monkeypatch.chdir(tmp_path)
    if kind != "npz":
        assert guess("set") == kind
        assert len(resolve("set", "train")) == layouts.NUM


FILES = {
    "folder": ["a.png", "notes.txt"],
    "folder of classes": ["ant/0.jpg", "bee/1.jpg"],
    "folder of splits": ["train/ant/0.jpg", "val/ant/1.jpg"],
    "wds of splits": ["train/0.tar", "val/0.tar"],
    "parquet of the hub": ["README.md", "data/train-00000-of-00001.parquet"],
    "array_record by tfds": ["x-train.array_record-00000-of-00001", "features.json"],
    "tfds": ["dataset_info.json", "x-train.tfrecord-00000-of-00001"],
    "tfds of versions": ["1.0.0/dataset_info.json", "1.0.1/dataset_info.json"],
}


@pytest.mark.parametrize("name", FILES)
def test_by_the_names_of_files(tmp_path, name):
    for file in FILES[name]:
        write(tmp_path / file, b"")
    assert guess(str(tmp_path)) == name.partition(" ")[0]


def test_patterns_and_urls():
    assert guess("/data/x-{0..9}.tar") == guess("gs://bucket/x-*.TAR#image=png") == "wds"
    assert guess("s3://bucket/{split}-*.parquet") == "parquet"
    assert guess("/data/x.array_record-00000-of-00009") == "array_record"


def test_what_tells_nothing(tmp_path):
    assert guess(str(tmp_path)) is None
    write(tmp_path / "notes/a.txt", b"")
    assert guess(str(tmp_path)) is None
    assert guess(f"{tmp_path}/notes/a.txt") is None


def test_several_kinds(tmp_path):
    write(tmp_path / "0.tar", b"")
    write(tmp_path / "train/0.parquet", b"")
    with pytest.raises(UserError, match=f"say which to read: parquet:{tmp_path} or wds:{tmp_path}"):
        resolve(str(tmp_path), "train")
