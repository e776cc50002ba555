"""The same layouts on object stores: an S3 server in this process, and fsspec's memory."""

import os
import pickle
import sys
from pathlib import Path

import layout_files as layouts
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data import files
from maskjax.data.source import resolve
from maskjax.data.sources.riegeli import RangeArrayRecord
from maskjax.data.train import train_iterator
from maskjax.data.transforms import TrainTransform
from maskjax.errors import UserError


@pytest.fixture(scope="module")
def s3():
    """Environment variables as a user sets them, and an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        files.filesystem("s3://bucket").mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A folder with a folder for each layout."""
    root = tmp_path_factory.mktemp("local")
    layouts.write_folder(root / "folder")
    layouts.write_flat(root / "flat")
    layouts.write_wds(root / "wds")
    layouts.write_parquet(root / "parquet")
    layouts.write_msgpack(root / "array_record")
    layouts.write_npz(root / "npz")
    prepared = layouts.prepare_tfds(root / "prepared", "array_record")
    for form in ("array_record", "parquet", "tfrecord"):
        layouts.reshard(prepared, root / "tfds" / form / "insects/1.0.0", form)
    return root


SPECS = [
    "folder:{}/folder",
    "folder:{}/flat",
    "wds:{}/wds/set-train-{{000000..000001}}.tar",
    "wds:{}/wds/*.tar",
    "wds:{}/wds",
    "parquet:{}/parquet",
    "array_record:{}/array_record/{{split}}-*.array_record",
    "npz:{}/npz/set.npz",
    "tfds:insects@{}/tfds/array_record",
    "tfds:{}/tfds/parquet/insects/1.0.0",
    "tfds:insects:1.0.0@{}/tfds/tfrecord",
    "{}/tfds/tfrecord/insects",
    "{}/wds",
    "{}/folder",
]


@pytest.fixture(scope="module", params=["s3", "memory"])
def remote(request, local):
    """The URL of a store that holds what `local` holds."""
    url = request.getfixturevalue("s3") if request.param == "s3" else "memory://bucket"
    files.filesystem(url).put(str(local), url, recursive=True)
    # fsspec puts the folder itself there, or its content, depending on what was there before.
    return next(place for place in (url, f"{url}/{local.name}") if files.is_dir(f"{place}/wds"))


@pytest.mark.parametrize("form", SPECS)
def test_reads_what_the_local_layout_holds(local, remote, form):
    source = pickle.loads(pickle.dumps(resolve(form.format(remote), "train")))
    here = resolve(form.format(local), "train")
    assert len(source) == len(here) == layouts.NUM
    assert source.class_names == here.class_names
    for number in (0, layouts.CUT - 1, layouts.CUT, layouts.NUM - 1):
        there, expected = source[number], here[number]
        assert there["label"] == layouts.LABELS[number]
        assert bytes(there.pop("image")) == bytes(expected.pop("image"))
        assert there == expected


def test_missing_objects_are_named(remote):
    with pytest.raises(UserError, match=f"there is no file {remote}/wds/set-train-000002.tar"):
        resolve(f"wds:{remote}/wds/set-train-{{000000..000002}}.tar", "train")
    with pytest.raises(UserError, match=f"there is no directory {remote}/nowhere"):
        resolve(f"folder:{remote}/nowhere", "train")
    with pytest.raises(UserError, match=f"there is no directory {remote}/tfds/nowhere"):
        resolve(f"tfds:insects@{remote}/tfds/nowhere", "train")


def test_an_object_that_vanishes_is_named(s3, local):
    files.filesystem(s3).put(str(local / "folder"), f"{s3}/gone", recursive=True)
    source = resolve(f"folder:{s3}/gone", "train")
    path = f"{s3}/gone/{source.names[3]}"
    files.filesystem(s3).rm(path)
    with pytest.raises(UserError, match=f"cannot read {path}"):
        source[3]


def test_a_replaced_shard_is_indexed_again(s3, tmp_path):
    url = f"{s3}/replaced/train.tar"
    layouts.write_tar(tmp_path / "a.tar", {"a.jpg": b"one", "a.cls": b"1"})
    files.filesystem(s3).put(str(tmp_path / "a.tar"), url)
    assert resolve(f"wds:{url}", "train")[0]["label"] == 1
    layouts.write_tar(tmp_path / "b.tar", {"a.jpg": b"two", "a.cls": b"2"})
    files.filesystem(s3).put(str(tmp_path / "b.tar"), url)
    assert resolve(f"wds:{url}", "train")[0]["label"] == 2


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("s3", "s3")])
def test_the_extra_to_install_is_named(monkeypatch, scheme, extra):
    monkeypatch.setattr(files, "_filesystems", {})
    for name in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)
    known = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(known, scheme, raising=False)
    for spec in (f"folder:{scheme}://bucket/x", f"{scheme}://bucket/x.tar"):
        with pytest.raises(UserError, match=rf"pip install maskjax\[{extra}\]"):
            resolve(spec, "train")


def test_an_unknown_scheme_is_named():
    with pytest.raises(UserError, match="no file system is known for xyzzy://"):
        resolve("folder:xyzzy://bucket/x", "train")


OPTIONS = ["group_size:1", "group_size:3,uncompressed", "group_size:2,brotli:3", "snappy"]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 127, 128, 5000, 65_000, 70_000, 140_000]), max_size=12),
    options=st.sampled_from(OPTIONS),
)
def test_array_records_by_ranges(tmp_path_factory, sizes, options):
    """As the C++ library reads them, wherever records fall on the borders of blocks."""
    path = tmp_path_factory.mktemp("range") / "x.array_record"
    records = [os.urandom(size // 2) + bytes(size - size // 2) for size in sizes]
    layouts.write_array_record_file(path, records, options)
    found = RangeArrayRecord(str(path), files.RangeReader())
    assert found.num_records() == ArrayRecordReader(str(path)).num_records() == len(records)
    numbers = list(range(len(records)))[::-1]
    assert found.read(numbers) == records[::-1]


def test_array_records_that_are_not(tmp_path):
    path = Path(
        layouts.write_array_record_file(tmp_path / "x", [b"a" * 99, b"b"], "transpose:true")
    )
    with pytest.raises(UserError, match=r"record 0 of .*transpose:true are not read"):
        RangeArrayRecord(str(path), files.RangeReader()).read([0])
    data = path.read_bytes()
    for broken in (b"", data[:-1], data[: 2**16], bytes(len(data)), data[2**15 :]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="is not an ArrayRecord file"):
            RangeArrayRecord(str(path), files.RangeReader())


@pytest.mark.slow
def test_worker_processes_read_objects(s3, local):
    """A fresh process finds the store and the index for itself; the batch is that of the files."""
    files.filesystem(s3).put(str(local / "wds"), f"{s3}/workers", recursive=True)
    batches = []
    for spec, workers in ((f"wds:{s3}/workers", 1), (f"folder:{local}/folder", 0)):
        source = resolve(spec, "train")
        with train_iterator(
            source, TrainTransform((6, 6)), seed=1, global_batch=30, workers=workers
        ) as stream:
            batches.append(next(stream))
    for key in ("image", "label", "position"):
        assert np.array_equal(batches[0][key], batches[1][key])
