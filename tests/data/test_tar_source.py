"""wds: which samples a tar file has, and every way in which it can be no such file."""

import gzip
import io
import os
import tarfile
import time

import layout_files as layouts
import pytest

from maskjax.data import cache
from maskjax.data.source import resolve
from maskjax.data.sources import wds
from maskjax.data.sources.tar_index import index_tar
from maskjax.errors import UserError


def images(source):
    return [source[number]["image"] for number in range(len(source))]


def labels(source):
    return [source[number].get("label") for number in range(len(source))]


def ids(source):
    return [source[number]["id"] for number in range(len(source))]


def test_samples_are_members_with_a_common_stem(tmp_path):
    members = {
        "a/0.JPG": b"0",
        "b/0.jpg": b"1",
        "a/0.cls": b"7\n",
        "a/1.seg.png": b"segments",
        "a/1.json": b'{"label": 5, "width": 3}',
        "a/1.png": b"2",
        "b/0.cls": b"2",
        "._a.jpg": b"of a file manager",
        "__meta__.json": b"of webdataset",
    }
    layouts.write_tar(tmp_path / "x.tar", members)
    source = resolve(f"wds:{tmp_path}/x.tar", "train")
    assert images(source) == [b"0", b"1", b"2"]
    assert labels(source) == [7, 2, 5]
    assert ids(source) == list(source.ids()) == ["x/a/0", "x/b/0", "x/a/1"]
    assert source.class_names is None


def test_another_part_can_be_the_image(tmp_path):
    members = {"0.jpg": b"rgb", "0.depth.png": b"depth", "1.depth.png": b"more", "1.jpg": b"rgb 1"}
    layouts.write_tar(tmp_path / "x.tar", members)
    assert images(resolve(f"wds:{tmp_path}/x.tar", "train")) == [b"rgb", b"rgb 1"]
    assert images(resolve(f"wds:{tmp_path}/x.tar#image=depth.png", "train")) == [b"depth", b"more"]
    with pytest.raises(UserError, match=r"'depth=png' is no option; write .*#image="):
        resolve(f"wds:{tmp_path}/x.tar#depth=png", "train")


def test_without_labels(tmp_path):
    layouts.write_tar(tmp_path / "x.tar", {"0.jpg": b"0", "0.txt": b"a dog", "0.json": b"{}"})
    assert "label" not in resolve(f"wds:{tmp_path}/x.tar", "train")[0]


def test_a_label_outside_the_classes_is_named(tmp_path):
    layouts.write_tar(
        tmp_path / "x.tar", {"0.jpg": b"", "0.cls": b"1", "1.jpg": b"", "1.cls": b"2"}
    )
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert resolve(f"wds:{tmp_path}/x.tar", "train").class_names == ("ant", "bee", "cat")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(UserError, match=r"x.tar: label 2 of 1 is none of the 2 classes of classes"):
        resolve(f"wds:{tmp_path}/x.tar", "train")


def test_long_names_and_other_dialects(tmp_path):
    name = f"{'folder/' * 30}{'x' * 120}"
    for number, dialect in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        members = {f"{name}.jpg": b"image", f"{name}.cls": b"1"}
        layouts.write_tar(tmp_path / f"{number}.tar", members, format=dialect)
        source = resolve(f"wds:{tmp_path}/{number}.tar", "train")
        assert (images(source), labels(source)) == ([b"image"], [1])
        assert ids(source) == [f"{number}/{name}"]


def test_splits(tmp_path):
    for name in ("set-train-0", "set-train-1", "set-val-0"):
        layouts.write_tar(tmp_path / f"{name}.tar", {"0.jpg": name.encode()})
    for spec in (f"wds:{tmp_path}", f"wds:{tmp_path}/set-{{split}}-*.tar", str(tmp_path)):
        assert images(resolve(spec, "train")) == [b"set-train-0", b"set-train-1"]
        assert images(resolve(spec, "val")) == [b"set-val-0"]
    assert images(resolve(f"wds:{tmp_path}", "validation")) == [b"set-val-0"]
    assert len(resolve(f"wds:{tmp_path}", "all")) == 3
    assert len(resolve(f"wds:{tmp_path}/*.tar", "all")) == 3
    with pytest.raises(UserError, match="has no split 'test'; it has: train, val"):
        resolve(f"wds:{tmp_path}", "test")
    with pytest.raises(UserError, match=r"the names of its files say train\. Write {split}"):
        resolve(f"wds:{tmp_path}/set-train-{{0..1}}.tar", "val")


def test_splits_as_folders_and_shards_of_no_split(tmp_path):
    for name in ("a/train/0", "a/val/0", "b/0", "b/1"):
        layouts.write_tar(tmp_path / f"{name}.tar", {"0.jpg": name.encode()})
    assert images(resolve(f"wds:{tmp_path}/a", "val")) == [b"a/val/0"]
    with pytest.raises(UserError, match="names of its files say val"):
        resolve(f"wds:{tmp_path}/a/val/*.tar", "train")
    for split in ("train", "test"):
        assert images(resolve(f"wds:{tmp_path}/b", split)) == [b"b/0", b"b/1"]


def test_an_index_is_made_once_for_each_shard(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKJAX_CACHE", str(tmp_path / "cache"))
    shards = [layouts.write_tar(tmp_path / f"{n}.tar", {"0.jpg": b"x" * n}) for n in (1, 2)]
    for shard in shards:
        os.utime(shard, (1000, 1000))
    opened = []
    monkeypatch.setattr(wds, "index_tar", lambda shard: opened.append(1) or index_tar(shard))
    spec = f"wds:{tmp_path}/*.tar"
    for _ in range(2):
        assert images(resolve(spec, "train")) == [b"x", b"xx"]
        assert len(opened) == 2
    layouts.write_tar(shards[1], {"0.jpg": b"new", "1.jpg": b"more"})
    assert images(resolve(spec, "train")) == [b"x", b"new", b"more"]
    assert len(opened) == 3
    # Written within the last two seconds: it may change again without a new time.
    assert images(resolve(spec, "train")) == [b"x", b"new", b"more"]
    assert len(opened) == 4
    for file in (tmp_path / "cache/index").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert images(resolve(spec, "train")) == [b"x", b"new", b"more"]


def test_an_unwritable_cache_is_only_slow(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MASKJAX_CACHE", str(tmp_path / "file"))
    os.utime(layouts.write_tar(tmp_path / "x.tar", {"0.jpg": b"0"}), (1000, 1000))
    assert images(resolve(f"wds:{tmp_path}/x.tar", "train")) == [b"0"]
    assert "set MASKJAX_CACHE" in caplog.text
    assert not cache.write(tmp_path / "file/x", b"")


def tar_bytes(*entries) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content, changes in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


GOOD = ("0.jpg", b"x" * 700, {})
LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
BROKEN = {
    "compressed": (gzip.compress(tar_bytes(GOOD)), "is compressed with gzip"),
    "text": (b"hello" * 500, "is not a tar file"),
    "empty": (b"", "is not a tar file"),
    "no members": (tar_bytes(), "holds no files"),
    "cut in a member": (tar_bytes(GOOD)[:1000], "is cut off inside its member 0.jpg"),
    "damaged header": (
        tar_bytes(GOOD)[:1536] + b"garbage!" * 64,
        "is damaged: there is no tar header at byte 1536",
    ),
    "out of the archive": (tar_bytes(("../up.jpg", b"x", {})), "'../up.jpg' points out"),
    "absolute": (tar_bytes(("/root/up.jpg", b"x", {})), "'/root/up.jpg' points out"),
    "hidden dots": (tar_bytes(("a/../../up.jpg", b"x", {})), "points out of the archive"),
    "symbolic link": (tar_bytes(("0.jpg", b"", LINK)), "'0.jpg' is a link or a special file"),
    "hard link": (
        tar_bytes(GOOD, ("1.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "0.jpg"})),
        "'1.jpg' is a link",
    ),
    "device": (tar_bytes(("0.jpg", b"", {"type": tarfile.CHRTYPE})), "is a link or a special"),
    "twice": (tar_bytes(GOOD, GOOD), "has two members 0.jpg"),
    "no image": (
        tar_bytes(GOOD, ("1.txt", b"a dog", {}), ("1.cls", b"1", {})),
        r"the sample 1 has no image \(jpg, .*\); its parts are: txt, cls",
    ),
    "some labels": (tar_bytes(GOOD, ("0.cls", b"1", {}), ("1.jpg", b"", {})), "1 has no label"),
    "label": (tar_bytes(GOOD, ("0.cls", b"dog", {})), "0.cls must hold an integer"),
    "json": (tar_bytes(GOOD, ("0.json", b"{", {})), "0.json must hold a JSON object"),
    "json list": (tar_bytes(GOOD, ("0.json", b"[1]", {})), "0.json must hold a JSON object"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_shards_are_named(tmp_path, name):
    data, message = BROKEN[name]
    path = tmp_path / "shard-000.tar"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        resolve(f"wds:{path}", "train")
    assert str(path) in str(error.value)


def test_a_tar_without_its_end_is_read_with_a_warning(tmp_path, caplog):
    (tmp_path / "x.tar").write_bytes(tar_bytes(GOOD)[:1536])
    assert len(resolve(f"wds:{tmp_path}/x.tar", "train")) == 1
    assert "ends without the mark for its end" in caplog.text


def test_missing_shards_are_named_at_once(tmp_path):
    layouts.write_tar(tmp_path / "shard-000000.tar", {"0.jpg": b"0"})
    started = time.process_time()
    with pytest.raises(UserError, match=f"there is no file {tmp_path}/shard-000001.tar .and 1022"):
        resolve(f"wds:{tmp_path}/shard-{{000000..001023}}.tar", "train")
    with pytest.raises(UserError, match=f"{tmp_path}/x-.*; {tmp_path} holds shard-000000.tar"):
        resolve(f"wds:{tmp_path}/x-*.tar", "train")
    with pytest.raises(UserError, match=r"holds no .tar .*it holds nothing"):
        (tmp_path / "empty").mkdir()
        resolve(f"wds:{tmp_path}/empty", "train")
    with pytest.raises(UserError, match="wants the path of files"):
        resolve("wds:", "train")
    assert time.process_time() - started < 1


def test_a_shard_that_is_cut_or_gone_later_is_named(tmp_path):
    path = layouts.write_tar(tmp_path / "x.tar", {"0.jpg": b"0" * 600, "1.jpg": b"1" * 600})
    source = resolve(f"wds:{path}", "train")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=f"{path} ends before byte 1112: it was cut off"):
        source[0]
    fresh = resolve(f"wds:{layouts.write_tar(tmp_path / 'y.tar', {'0.jpg': b'0'})}", "train")
    (tmp_path / "y.tar").unlink()
    with pytest.raises(UserError, match=f"cannot read {tmp_path}/y.tar: No such file"):
        fresh[0]
