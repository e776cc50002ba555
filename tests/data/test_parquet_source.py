"""parquet: which columns are read, and files that cannot be."""

import json
import pickle

import layout_files as layouts
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from maskjax.data.source import resolve
from maskjax.data.sources import row_groups
from maskjax.errors import UserError

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
PICTURES = [{"bytes": b"0", "path": "a.jpg"}, {"bytes": b"1", "path": None}]


def save(path, columns, features=None, **options) -> str:
    table = pa.table(columns)
    if features is not None:
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    parquet.write_table(table, path, **options)
    return f"parquet:{path}"


def pictures(kind=IMAGE):
    return pa.array(PICTURES, kind)


def test_columns_by_usual_names(tmp_path):
    spec = save(tmp_path / "x.parquet", {"width": [3, 4], "image": pictures(), "label": [1, 0]})
    source = resolve(spec, "train")
    assert source[0] == {"image": b"0", "label": 1, "id": "x.parquet__0/a.jpg"}
    assert source[1] == {"image": b"1", "label": 0, "id": "x.parquet__1"}
    assert source.class_names is None


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_without_labels(tmp_path, kind):
    spec = save(tmp_path / "x.parquet", {"jpg": pa.array([b"0", b"1"], kind), "other": [b"", b""]})
    assert resolve(spec, "train")[1] == {"image": b"1", "id": "x.parquet__1"}


def test_columns_by_features_and_by_choice(tmp_path):
    names = {"coarse": ["x", "y"], "fine": ["p", "q", "r"]}
    features = {key: {"_type": "ClassLabel", "names": value} for key, value in names.items()}
    columns = {"picture": pictures(), "coarse": [1, 0], "fine": [2, 0]}
    features["picture"] = {"_type": "Image"}
    spec = save(tmp_path / "x.parquet", columns, features)
    source = resolve(f"{spec}#label=fine", "train")
    assert (source[0]["label"], source.class_names) == (2, ("p", "q", "r"))
    assert resolve(f"{spec}#image=picture,label=coarse", "train").class_names == ("x", "y")
    with pytest.raises(UserError, match=r"several .* the label: coarse, fine. Write #label=COLUMN"):
        resolve(spec, "train")
    with pytest.raises(UserError, match=r"no column 'big'; it has: picture, coarse, fine"):
        resolve(f"{spec}#label=big", "train")
    with pytest.raises(UserError, match=r"label column 'picture' must hold integers"):
        resolve(f"{spec}#label=picture", "train")


def test_hidden_labels_are_none(tmp_path):
    spec = save(tmp_path / "x.parquet", {"image": pictures(), "label": [-1, -1]})
    assert "label" not in resolve(spec, "test")[0]


def test_a_label_outside_the_classes_is_named(tmp_path):
    features = {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    spec = save(tmp_path / "x.parquet", {"image": pictures(), "label": [1, 2]}, features)
    source = resolve(spec, "train")
    assert source[0]["label"] == 1
    with pytest.raises(
        UserError, match=r"record 1 of .*x.parquet: label 2 is none of the 2 classes"
    ):
        source[1]


def test_rows_without_content_are_named(tmp_path):
    rows = pa.array([{"bytes": None, "path": "/elsewhere.jpg"}, PICTURES[0]], IMAGE)
    source = resolve(save(tmp_path / "x.parquet", {"image": rows, "label": [1, None]}), "train")
    with pytest.raises(UserError, match=r"record 0 of .*x.parquet: it holds no image bytes"):
        source[0]
    with pytest.raises(
        UserError, match=r"record 1 of .*: the label must be an integer, found None"
    ):
        source[1]


def test_files_that_cannot_be_read(tmp_path):
    spec = save(tmp_path / "x.parquet", {"text": ["a", "b"]})
    with pytest.raises(UserError, match=r"x.parquet has no column of images \(it has: text\)"):
        resolve(spec, "train")
    with pytest.raises(UserError, match="has no rows in 1 files"):
        resolve(save(tmp_path / "x.parquet", {"image": pa.array([], IMAGE)}), "train")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(UserError, match=r"x.parquet is not a Parquet file, or damaged"):
        resolve(spec, "train")
    with pytest.raises(UserError, match=f"there is no file {tmp_path}/y.parquet"):
        resolve(f"parquet:{tmp_path}/y.parquet", "train")


def test_files_that_break_later_are_named(tmp_path):
    data = np.random.default_rng(0).bytes(4000)
    rows = pa.array([{"bytes": data, "path": None}] * 2, IMAGE)
    path = tmp_path / "x.parquet"
    source = resolve(save(path, {"image": rows}, write_page_checksum=True), "train")
    broken = bytearray(path.read_bytes())
    broken[2000] ^= 1
    path.write_bytes(broken)
    with pytest.raises(UserError, match=r"x.parquet.* CRC"):
        source[0]
    path.unlink()
    with pytest.raises(UserError, match=f"cannot open {path}: No such file"):
        source[0]
    source = resolve(save(path, {"image": rows}), "train")
    save(path, {"image": rows[:1]})
    with pytest.raises(UserError, match="was replaced after it was looked at"):
        source[0]
    save(path, {"text": ["a", "b"]})
    with pytest.raises(UserError, match="has no column 'image'"):
        pickle.loads(pickle.dumps(source))[0]


def test_memory_is_bounded(tmp_path, monkeypatch):
    """Rows in a shuffled order, with room for two of the thirteen groups."""
    rows = pa.array([{"bytes": bytes([n]) * 5000, "path": None} for n in range(26)], IMAGE)
    spec = save(tmp_path / "x.parquet", {"image": rows}, row_group_size=2)
    monkeypatch.setattr(row_groups, "CACHE_BYTES", 21_000)
    source = resolve(spec, "train")
    for number in np.random.default_rng(0).permutation(26):
        assert source[number]["image"] == bytes([number]) * 5000
        assert len(source.reader._groups) <= 2


def test_the_layout_of_the_hub(tmp_path):
    """data/train-*, data/validation-*: splits by the names of the files."""
    layouts.write_parquet(tmp_path / "data")
    save(
        tmp_path / "data/validation-00000-of-00001.parquet", {"image": pictures(), "label": [0, 1]}
    )
    for spec in (f"parquet:{tmp_path}", str(tmp_path), f"parquet:{tmp_path}/data/{{split}}-*"):
        assert len(resolve(spec, "train")) == layouts.NUM
        assert len(resolve(spec, "validation")) == 2
    assert len(resolve(f"parquet:{tmp_path}", "val")) == 2
    with pytest.raises(UserError, match="no split 'test'; it has: train, validation"):
        resolve(f"parquet:{tmp_path}", "test")
