"""tfds: where a data set is found, and what is said when it cannot be read."""

import json
import shutil
import sys

import layout_files as layouts
import pytest

from maskjax.data.decode import decode
from maskjax.data.source import resolve
from maskjax.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The set as TFDS prepared it, and a folder with one folder for each format."""
    root = tmp_path_factory.mktemp("tfds")
    folder = layouts.prepare_tfds(root / "prepared", "array_record")
    for form in ("array_record", "parquet", "tfrecord"):
        layouts.reshard(folder, root / form / "insects/1.0.0", form)
    return root


@pytest.fixture
def copy(prepared, tmp_path):
    """A function: format -> its own copy of the set, to be broken."""

    def copied(form):
        shutil.copytree(prepared / form, tmp_path / form)
        return tmp_path / form / "insects/1.0.0"

    return copied


def rewrite(folder, **changes):
    path = folder / "dataset_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_found_by_name_version_config_and_directory(prepared, tmp_path, monkeypatch):
    root = tmp_path / "data"
    for place in ("insects/1.0.0", "insects/1.10.0", "insects/1.9.0", "one/cfg/2.0.0"):
        shutil.copytree(prepared / "tfrecord/insects/1.0.0", root / place)
    (root / "insects/1.11.0.incompleteXYZ").mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    found = {
        "tfds:insects": "insects/1.10.0",
        f"tfds:insects@{root}": "insects/1.10.0",
        "tfds:insects:1.0.0": "insects/1.0.0",
        f"tfds:{root}/insects": "insects/1.10.0",
        f"tfds:{root}/insects/1.9.0": "insects/1.9.0",
        f"{root}/insects/1.9.0": "insects/1.9.0",
        f"tfds:insects@{root}/insects/1.9.0": "insects/1.9.0",
        "tfds:one": "one/cfg/2.0.0",
        "tfds:one/cfg": "one/cfg/2.0.0",
        "tfds:one/cfg:2.0.0": "one/cfg/2.0.0",
    }
    for spec, place in found.items():
        first = resolve(spec, "train").pieces[0].path
        assert first == f"{root}/{place}/insects-train.tfrecord-00000-of-00002", spec
    shutil.copytree(root / "one/cfg", root / "one/other")
    with pytest.raises(UserError, match="several data sets, name one: cfg, other"):
        resolve("tfds:one", "train")
    with pytest.raises(UserError, match=r"no prepared data set of version 3\.0\.0 in .*insects"):
        resolve("tfds:insects:3.0.0", "train")


def test_a_set_that_is_not_prepared_fails_before_tfds_is_asked(tmp_path, monkeypatch):
    """TFDS would try to reach the network, for minutes."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    (tmp_path / "mnist/3.0.1").mkdir(parents=True)
    with pytest.raises(
        UserError,
        match=rf"in {tmp_path}/mnist or .*looked for dataset_info.json.* tfds build mnist",
    ):
        resolve(f"tfds:mnist@{tmp_path}", "train")
    with pytest.raises(UserError, match=f"there is no directory {tmp_path}/imagenet2012"):
        resolve(f"tfds:imagenet2012@{tmp_path}", "train")
    with pytest.raises(UserError, match=f"there is no directory {tmp_path}/nowhere"):
        resolve(f"tfds:mnist@{tmp_path}/nowhere", "train")
    with pytest.raises(UserError, match=f"there is no directory {tmp_path}/nowhere"):
        resolve(f"tfds:{tmp_path}/nowhere", "train")


@pytest.mark.parametrize("form", ["array_record", "parquet", "tfrecord"])
def test_slices_cross_shards(prepared, form):
    spec = f"tfds:insects@{prepared / form}"
    whole = resolve(spec, "train")
    for split, numbers in {
        "[:50%]": range(13),
        "[8:12]": range(8, 12),
        "[-3:]": range(23, 26),
    }.items():
        part = resolve(spec, f"train{split}")
        assert [part[n]["id"] for n in range(len(part))] == [whole[n]["id"] for n in numbers]


def test_ids_tell_the_record_and_its_own_name(prepared):
    ids = {
        form: resolve(f"tfds:insects@{prepared / form}", "train")[layouts.CUT + 1]["id"]
        for form in ("array_record", "tfrecord")
    }
    assert ids == {
        form: f"insects-train.{form}-00001-of-00002__1/{layouts.name(layouts.CUT + 1)}"
        for form in ids
    }


@pytest.mark.parametrize("form", ["array_record", "parquet", "tfrecord"])
def test_a_missing_shard_is_named(copy, form):
    folder = copy(form)
    name = f"insects-train.{form}-00001-of-00002"
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{folder}/{name} is missing; 1 of 2 shards are"):
        resolve(f"tfds:{folder}", "train")


@pytest.mark.parametrize("form", ["array_record", "parquet", "tfrecord"])
def test_a_shard_of_another_length_is_named(copy, form):
    """Told when the source is built; by array_record, which opens shards later, when it is read."""
    folder = copy(form)
    splits = json.loads((folder / "dataset_info.json").read_text())["splits"]
    splits[0]["shardLengths"] = ["10", "17"]
    rewrite(folder, splits=splits)
    with pytest.raises(UserError, match=r"00001-of-00002 has 16 records.* 17") as error:
        resolve(f"tfds:{folder}", "train")[26]
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("form", ["array_record", "parquet", "tfrecord"])
@pytest.mark.parametrize("how", ["cut", "garbage"])
def test_a_broken_shard_is_named(copy, form, how):
    folder = copy(form)
    path = folder / f"insects-train.{form}-00000-of-00002"
    path.write_bytes(path.read_bytes()[:-30] if how == "cut" else b"\0" * path.stat().st_size)
    with pytest.raises(UserError, match=f"{path} "):
        resolve(f"tfds:{folder}", "train")[0]


@pytest.mark.parametrize("form", ["array_record", "parquet", "tfrecord"])
def test_a_shard_that_vanishes_is_named(copy, form):
    folder = copy(form)
    source = resolve(f"tfds:{folder}", "train")
    path = folder / f"insects-train.{form}-00001-of-00002"
    path.unlink()
    assert decode(source[0]["image"]).size
    with pytest.raises(UserError, match=f"{path}"):
        source[layouts.CUT]


def test_a_flipped_bit_is_found_when_asked_for(copy):
    folder = copy("tfrecord")
    path = folder / "insects-train.tfrecord-00000-of-00002"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert len(resolve(f"tfds:{folder}", "train")) == layouts.NUM
    source = resolve(f"tfds:{folder}#verify=crc", "train")
    with pytest.raises(UserError, match=f"record 0 of {path} is damaged: its checksum is wrong"):
        source[0]
    assert source[1]["label"] == 0


def test_a_record_that_is_no_example_is_named(copy):
    folder = copy("tfrecord")
    path = folder / "insects-train.tfrecord-00000-of-00002"
    rows = [layouts.framed(b"\xff" * 40)] * layouts.CUT
    path.write_bytes(b"".join(rows))
    with pytest.raises(UserError, match=f"record 3 of {path}: cannot be parsed"):
        resolve(f"tfds:{folder}", "train")[3]


def test_other_formats_are_refused(copy):
    folder = copy("tfrecord")
    rewrite(folder, fileFormat="riegeli")
    with pytest.raises(UserError, match=f"{folder} is stored as riegeli, .*tfds convert_format"):
        resolve(f"tfds:{folder}", "train")


def test_descriptions_that_cannot_be_read(copy):
    folder = copy("tfrecord")
    spec = f"tfds:{folder}"
    with pytest.raises(UserError, match=f"{folder} has no split 'test'; it has: train"):
        resolve(spec, "test")
    with pytest.raises(UserError, match=r"'crc=1' is no option; write .*#image=...,label="):
        resolve(f"{spec}#crc=1", "train")
    with pytest.raises(UserError, match=r"no feature 'picture'; it has: .*image"):
        resolve(f"{spec}#image=picture", "train")
    text = (folder / "features.json").read_text()
    (folder / "features.json").write_text(text.replace("image_feature.Image", "no_such.Thing"))
    with pytest.raises(UserError, match=f"TFDS cannot read the description in {folder}"):
        resolve(spec, "train")
    (folder / "features.json").unlink()
    with pytest.raises(UserError, match=r"has no features.json: .*prepare it again"):
        resolve(spec, "train")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info.json is damaged"):
        resolve(spec, "train")


def test_the_extra_to_install_is_named(prepared, monkeypatch):
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "tensorflow_datasets" else find(name),
    )
    with pytest.raises(UserError, match=r"pip install maskjax\[tfds\]"):
        resolve(f"tfds:insects@{prepared / 'tfrecord'}", "train")
    with pytest.raises(UserError, match=r"pip install maskjax\[tfds\]"):
        resolve(f"array_record:{prepared}/array_record/insects/1.0.0", "train")
