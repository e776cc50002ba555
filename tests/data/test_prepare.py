"""Image sets written again, smaller: what is kept, what is read back, stopping and going on."""

import json
import os

import fsspec
import layout_files as layouts
import numpy as np
import pytest
from image_files import encode, write
from PIL import Image

from maskjax.data import prepare as prepare_module
from maskjax.data.decode import decode
from maskjax.data.prepare import Counts, Recipe, prepare, shrink
from maskjax.data.resize import resize
from maskjax.data.source import resolve
from maskjax.data.sources.photos import photo
from maskjax.errors import UserError

PHOTO = photo("chelsea")  # [300, 451, 3]


def run(spec, out, split="train", workers=0, **options):
    """The counts of all shards, and how many were written now."""
    options = {"name": split, "per_shard": 10, "short_side": 7, **options}
    total, fresh = Counts(), 0
    for counts, now in prepare(resolve(spec, split), str(out), Recipe(**options), workers):
        total.add(counts)
        fresh += now
    return total, fresh


@pytest.fixture(scope="module")
def insects(tmp_path_factory):
    """26 JPEGs of 6 to 10 rows, three classes: a folder."""
    return layouts.write_folder(tmp_path_factory.mktemp("insects") / "set")


@pytest.mark.parametrize("form", ["wds", "parquet", "array_record"])
def test_every_format_is_read_back(insects, tmp_path, form):
    """Small images byte for byte, larger ones reduced; labels, order and class names stay."""
    total, fresh = run(insects, tmp_path, format=form)
    assert (total.images, fresh) == (26, 3)
    before, after = resolve(insects, "train"), resolve(f"{form}:{tmp_path}", "train")
    assert len(after) == 26
    assert after.class_names == layouts.CLASSES
    assert len({after[n]["id"] for n in range(26)}) == 26
    copied = 0
    for n in range(26):
        old, new = before[n], after[n]
        assert new["label"] == old["label"]
        pixels = decode(old["image"], 3)
        if min(pixels.shape[:2]) <= 7:
            assert new["image"] == old["image"]
            copied += 1
        else:
            assert min(decode(new["image"], 3).shape[:2]) == 7
    assert copied == total.copied > 0
    assert total.bytes_before == sum(len(before[n]["image"]) for n in range(26))


@pytest.mark.parametrize("form", ["wds", "parquet", "array_record"])
def test_without_labels(tmp_path, form):
    for n in range(3):
        write(tmp_path / "in" / f"{n}.jpg", encode(PHOTO[: 20 + n, :20], "JPEG"))
    run(f"folder:{tmp_path}/in", tmp_path / "out", format=form)
    source = resolve(f"{form}:{tmp_path}/out", "train")
    assert len(source) == 3
    assert "label" not in source[0]


def test_workers_do_not_matter(insects, tmp_path):
    for workers in (0, 2):
        run(insects, tmp_path / str(workers), workers=workers)
    names = sorted(os.listdir(tmp_path / "0"))
    assert names == sorted(os.listdir(tmp_path / "2"))
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_stopped_run_goes_on(insects, tmp_path, monkeypatch):
    run(insects, tmp_path / "whole")
    done = prepare(
        resolve(insects, "train"),
        str(tmp_path / "part"),
        recipe := Recipe("train", 7, per_shard=10),
    )
    next(done)
    done.close()
    shard = prepare_module.FORMATS["wds"][0]
    added = []

    def stop(self, item):
        added.append(item)
        if len(added) == 5:
            raise KeyboardInterrupt
        return add(self, item)

    add = shard.add
    monkeypatch.setattr(shard, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        list(prepare(resolve(insects, "train"), str(tmp_path / "part"), recipe))
    monkeypatch.undo()
    names = {"classes.txt", "train.prepared.jsonl", "train-00000.tar"}
    assert set(os.listdir(tmp_path / "part")) == names
    (tmp_path / "part" / ".train-00001.tar.123").write_bytes(b"left by a run that was killed")
    total, fresh = run(insects, tmp_path / "part")
    assert (total.images, fresh) == (26, 2)
    for name in os.listdir(tmp_path / "part"):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "part" / name).read_bytes() == whole
    assert run(insects, tmp_path / "part")[1] == 0


def test_a_lost_shard_is_written_again(insects, tmp_path):
    run(insects, tmp_path)
    (tmp_path / "train-00001.tar").unlink()
    assert run(insects, tmp_path)[1] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"quality": 50}, r"begun with other settings: quality 90 \(now 50\)"),
        ({"made_from": "folder:/other"}, r"other settings: made_from '' \(now 'folder:/other'\)"),
    ],
)
def test_other_settings_do_not_mix(insects, tmp_path, options, message):
    run(insects, tmp_path)
    with pytest.raises(UserError, match=message):
        run(insects, tmp_path, **options)


def test_foreign_shards_and_classes_are_left_alone(insects, tmp_path):
    (tmp_path / "train-00000.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"train-00000\.tar, which was not made by this command"):
        run(insects, tmp_path)
    (tmp_path / "classes.txt").write_text("wasp\n")
    with pytest.raises(UserError, match=r"classes.txt lists other classes"):
        run(insects, tmp_path, name="other")


def test_two_splits_share_a_folder(insects, tmp_path):
    run(insects, tmp_path)
    run(insects, tmp_path, name="val")
    for split in ("train", "val"):
        assert len(resolve(f"wds:{tmp_path}", split)) == 26


def test_broken_images(insects, tmp_path):
    folder = tmp_path / "in"
    for n in range(4):
        write(folder / f"{n}.jpg", encode(PHOTO[:40, :40], "JPEG"))
    write(folder / "2.jpg", encode(PHOTO, "JPEG")[:3000])
    with pytest.raises(UserError, match=r"'2.jpg' .*truncated.*--skip-broken"):
        run(f"folder:{folder}", tmp_path / "out")
    total, _ = run(f"folder:{folder}", tmp_path / "out", skip_broken=True)
    assert total.images == 3
    assert [line.partition(":")[0] for line in total.skipped] == ["2.jpg"]
    source = resolve(f"wds:{tmp_path}/out", "train")
    assert [source[n]["id"].rpartition("/")[2] for n in range(3)] == [
        "00000000-0",
        "00000001-1",
        "00000003-3",
    ]
    kept = json.loads((tmp_path / "out/train.prepared.jsonl").read_text().splitlines()[-1])
    assert kept["skipped"] == total.skipped


def test_object_stores(insects, tmp_path):
    total, _ = run(insects, "memory://prepared")
    assert total.images == 26
    store = fsspec.filesystem("memory")
    names = {path.rpartition("/")[2] for path in store.ls("/prepared", detail=False)}
    assert {"train-00000.tar", "train-00002.tar", "classes.txt"} <= names
    assert run(insects, "memory://prepared")[1] == 0
    run(insects, tmp_path)
    assert (
        store.cat_file("/prepared/train-00001.tar") == (tmp_path / "train-00001.tar").read_bytes()
    )


def test_the_reduced_picture():
    """Upright, antialiased, the short side as asked; a large JPEG is decoded at a fraction."""
    recipe = Recipe("x", 100, quality=95)
    data, extension, kept = shrink(encode(PHOTO, "JPEG", quality=95), "x", recipe)
    assert (extension, kept) == ("jpg", False)
    found, wanted = decode(data, 3), resize(PHOTO, (100, 150))
    assert found.shape == (100, 150, 3)
    assert np.abs(found.astype(int) - wanted).mean() < 3
    large = Image.fromarray(PHOTO).resize((451 * 6, 300 * 6), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(np.asarray(large), "JPEG", quality=95, exif=exif)
    found = decode(shrink(data, "x", recipe)[0], 3)
    assert found.shape == (150, 100, 3)
    assert np.abs(found.astype(int) - np.rot90(wanted, -1)).mean() < 3
    grey = decode(shrink(encode(PHOTO[..., 0]), "x", recipe)[0])
    assert grey.shape == (100, 150, 1)


def test_what_is_copied():
    recipe = Recipe("x", 300)
    for kind, extension in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        data = encode(PHOTO, kind)
        assert shrink(data, "x", recipe) == (data, extension, True)
    assert shrink(encode(PHOTO, "BMP"), "x", recipe)[1:] == ("jpg", False)
    assert shrink(PHOTO, "x", recipe)[1:] == ("jpg", False)
    with pytest.raises(UserError, match="has 5 channels: JPEG holds 1 or 3"):
        shrink(np.zeros((9, 9, 5), np.uint8), "x", recipe)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "zip"}, "unknown format 'zip'; one of: wds, parquet, array_record"),
        ({"short_side": 0}, "must be at least 1"),
        ({"quality": 101}, r"quality must be in 1 .. 100, found 101"),
        ({"name": "a/b"}, "cannot be the name of files"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        Recipe(**{"name": "x", **options})
