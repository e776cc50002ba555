"""array_record: the kinds of records, and what is said about others."""

import io

import layout_files as layouts
import msgpack
import numpy as np
import pytest

from maskjax.data.source import resolve
from maskjax.errors import UserError


def packed_npz(**arrays) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


def save(folder, records, name="train-0.array_record") -> str:
    layouts.write_array_record_file(folder / name, records)
    return f"array_record:{folder}"


def test_npz_records(tmp_path):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    encoded = np.frombuffer(b"a jpeg", np.uint8)
    records = [packed_npz(image=image, label=3), packed_npz(image=encoded, label=1, id="x")]
    source = resolve(save(tmp_path, records), "train")
    assert np.array_equal(source[0]["image"], image)
    assert (source[0]["label"], source[0]["id"]) == (3, "train-0.array_record__0")
    assert source[1] == {"image": b"a jpeg", "label": 1, "id": "train-0.array_record__1/x"}


def test_maps_without_labels_and_class_names(tmp_path):
    source = resolve(save(tmp_path, [msgpack.packb({"image": b"0"})]), "train")
    assert source[0] == {"image": b"0", "id": "train-0.array_record__0"}
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    spec = save(tmp_path, [msgpack.packb({"image": b"0", "label": n}) for n in (1, 2)])
    source = resolve(spec, "train")
    assert source.class_names == ("ant", "bee")
    with pytest.raises(UserError, match="label 2 is none of the 2 classes"):
        source[1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\xc1 no such byte", "neither a msgpack map nor an npz file .*features.json in the same"),
        (msgpack.packb([1, 2]), "must be a msgpack map, found list"),
        (msgpack.packb({"picture": b"0"}), "no 'image' of bytes or uint8; it holds: picture"),
        (msgpack.packb({"image": "text"}), "no 'image' of bytes or uint8"),
        (msgpack.packb({"image": b"0", "label": "ant"}), "label must be an integer, found 'ant'"),
        (packed_npz(image=np.zeros((2, 2, 3))), "no 'image' of bytes or uint8"),
        (packed_npz(image=np.zeros((2, 2, 3), np.uint8))[:-50], "is a damaged npz file"),
    ],
)
def test_other_records_are_told_at_once(tmp_path, record, message):
    spec = save(tmp_path, [record])
    with pytest.raises(
        UserError, match=rf"record 0 of {tmp_path}/train-0.array_record: .*{message}"
    ):
        resolve(spec, "train")


def test_files_that_cannot_be_read(tmp_path):
    spec = save(tmp_path, [])
    with pytest.raises(UserError, match="has no records in 1 files"):
        resolve(spec, "train")
    save(tmp_path, [b"0" * 9999] * 9)
    path = tmp_path / "train-0.array_record"
    data = path.read_bytes()
    for broken in (b"", b"text", bytes(len(data)), data[:-30], data[: 2**16], data[2**16 :]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"{path} is not an ArrayRecord file, or damaged"):
            resolve(spec, "train")
    with pytest.raises(UserError, match=r"options are for records with features.json"):
        resolve(f"{save(tmp_path, [msgpack.packb({'image': b'0'})])}#image=x", "train")


def test_a_file_of_another_length_later_is_named(tmp_path):
    rows = [msgpack.packb({"image": bytes([n])}) for n in range(4)]
    save(tmp_path, rows[:2])
    source = resolve(save(tmp_path, rows, "train-1.array_record"), "train")
    assert [source[n]["image"] for n in (0, 1, 5)] == [b"\0", b"\1", b"\3"]
    fresh = resolve(f"array_record:{tmp_path}", "train")
    save(tmp_path, rows[:3], "train-1.array_record")
    with pytest.raises(UserError, match=r"train-1.array_record has 3 records, not 4 as it should"):
        fresh[2]
    (tmp_path / "train-0.array_record").unlink()
    with pytest.raises(UserError, match=f"there is no file {tmp_path}/train-1.array_record"):
        (tmp_path / "train-1.array_record").unlink()
        resolve(f"array_record:{tmp_path}/train-{{1..1}}.array_record", "train")
