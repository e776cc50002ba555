"""folder:DIR in all its layouts, and what it says when the layout is not one of them."""

import os
import pickle
import time

import numpy as np
import pytest
from image_files import encode, write

from maskjax.data import files
from maskjax.data.decode import decode
from maskjax.data.source import Source, resolve
from maskjax.errors import UserError

PIXEL = encode(np.zeros((2, 2, 3), np.uint8))


def labels(source):
    return [source[i].get("label") for i in range(len(source))]


def ids(source):
    return [source[i]["id"] for i in range(len(source))]


def test_class_folders(image_folder, pictures):
    source = resolve(f"folder:{image_folder}", "train")
    assert isinstance(source, Source)
    assert source.class_names == ("ant", "bee")
    assert labels(source) == [0, 0, 1, 1]
    assert ids(source) == [f"train/{name}.png" for name in ("ant/0", "ant/1", "bee/0", "bee/1")]
    for index in range(4):
        assert np.array_equal(decode(source[index]["image"]), pictures[index])


def test_a_split_without_a_class_keeps_the_numbers_of_the_others(image_folder):
    source = resolve(f"folder:{image_folder}", "test")
    assert source.class_names == ("ant", "bee")
    assert labels(source) == [1, 1]


def test_extensions_ignore_case_and_other_files_are_left_alone(tmp_path):
    for name in ("b.JPG", "a.Jpeg", "d.webp", "c.PNG", "notes.txt", "._b.jpg"):
        write(tmp_path / "train/x" / name, PIXEL)
    source = resolve(f"folder:{tmp_path}", "train")
    assert ids(source) == [f"train/x/{name}" for name in ("a.Jpeg", "b.JPG", "c.PNG", "d.webp")]


def test_flat_split_has_no_labels(tmp_path):
    write(tmp_path / "val/a.png", PIXEL)
    source = resolve(f"folder:{tmp_path}", "val")
    assert ids(source) == ["val/a.png"]
    assert source.class_names is None
    assert "label" not in source[0]


def test_images_below_the_root_are_every_split(tmp_path):
    write(tmp_path / "b.png", PIXEL)
    write(tmp_path / "a.png", PIXEL)
    for split in ("train", "test", "all"):
        assert ids(resolve(f"folder:{tmp_path}", split)) == ["a.png", "b.png"]


def test_split_all_reads_class_folders_below_the_root(image_folder):
    source = resolve(f"folder:{image_folder / 'train'}", "all")
    assert labels(source) == [0, 0, 1, 1]
    assert ids(source)[0] == "ant/0.png"


@pytest.mark.parametrize("header", ["", "file,label\n"])
def test_labels_file_uses_the_classes_of_the_other_splits(image_folder, header):
    write(image_folder / "val/one.png", PIXEL)
    write(image_folder / "val/two.png", PIXEL)
    (image_folder / "val/labels.csv").write_text(f"{header}two.png,ant\none.png,bee\n")
    source = resolve(f"folder:{image_folder}", "val")
    assert source.class_names == ("ant", "bee")
    assert labels(source) == [1, 0]


def test_labels_file_with_numbers(tmp_path):
    write(tmp_path / "train/a.png", PIXEL)
    write(tmp_path / "train/b.png", PIXEL)
    (tmp_path / "train/labels.csv").write_text("a.png,7\nb.png,0\n")
    source = resolve(f"folder:{tmp_path}", "train")
    assert (source.class_names, labels(source)) == (None, [7, 0])


def test_labels_files_with_names_share_numbers_between_splits(tmp_path):
    for split, rows in (("train", "a.png,wasp\nb.png,ant\n"), ("test", "a.png,wasp\n")):
        for name in ("a.png", "b.png")[: rows.count("\n")]:
            write(tmp_path / split / name, PIXEL)
        (tmp_path / split / "labels.csv").write_text(rows)
    assert labels(resolve(f"folder:{tmp_path}", "train")) == [1, 0]
    assert labels(resolve(f"folder:{tmp_path}", "test")) == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,ant\n", "has no label for b.png"),
        ("a.png,ant\nb.png,bee\nc.png,bee\n", "names c.png, which is not in"),
        ("a.png,ant\nb.png,cow\n", r"label 'cow' is none of the 2 classes .*ant, bee"),
        ("a.png,ant\nb.png\n", "line 2: wants file,label, found 'b.png'"),
        ("a.png,ant\na.png,bee\nb.png,bee\n", "line 2: a.png has two different labels"),
    ],
)
def test_wrong_labels_file(image_folder, rows, message):
    write(image_folder / "val/a.png", PIXEL)
    write(image_folder / "val/b.png", PIXEL)
    (image_folder / "val/labels.csv").write_text(rows)
    with pytest.raises(UserError, match=message) as error:
        resolve(f"folder:{image_folder}", "val")
    assert str(image_folder / "val") in str(error.value)


def test_errors_name_the_path_that_was_looked_at(image_folder, tmp_path):
    started = time.process_time()
    with pytest.raises(UserError, match=f"no directory {tmp_path}/nowhere"):
        resolve(f"folder:{tmp_path}/nowhere", "train")
    with pytest.raises(UserError, match="there is no directory"):
        resolve("folder:", "train")
    with pytest.raises(
        UserError, match=f"no split 'val' .no folder {image_folder}/val.*test, train"
    ):
        resolve(f"folder:{image_folder}", "val")
    (tmp_path / "empty/train/ant").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{tmp_path}/empty/train holds no image .*it holds ant"):
        resolve(f"folder:{tmp_path}/empty", "train")
    write(image_folder / "train/stray.png", PIXEL)
    with pytest.raises(UserError, match=r"both images \(stray.png, ...\) and class folders"):
        resolve(f"folder:{image_folder}", "train")
    assert time.process_time() - started < 1


def test_a_file_that_vanishes_is_named(image_folder):
    source = resolve(f"folder:{image_folder}", "train")
    (image_folder / "train/ant/1.png").unlink()
    with pytest.raises(
        UserError, match=f"cannot read {image_folder}/train/ant/1.png: No such file"
    ):
        source[1]


def test_folders_inside_class_folders(tmp_path):
    for name in (
        "ant/b/1.png",
        "ant/0.png",
        "ant/a/x/2.jpg",
        "bee/images/3.tiff",
        "bee/notes/a.txt",
    ):
        write(tmp_path / "train" / name, PIXEL)
    source = resolve(f"folder:{tmp_path}", "train")
    below = ("ant/0.png", "ant/a/x/2.jpg", "ant/b/1.png", "bee/images/3.tiff")
    assert ids(source) == list(source.ids()) == [f"train/{name}" for name in below]
    assert labels(source) == [0, 0, 0, 1]


def test_links_are_followed_once_and_loops_end(tmp_path):
    train, elsewhere = tmp_path / "set/train", tmp_path / "elsewhere"
    write(elsewhere / "cats/0.png", PIXEL)
    write(elsewhere / "ants/1.png", PIXEL)
    write(elsewhere / "one.png", PIXEL)
    write(train / "bee/2.png", PIXEL)
    (train / "cat").symlink_to(elsewhere / "cats")
    (train / "ant").mkdir()
    (train / "ant/3.png").symlink_to(elsewhere / "one.png")
    (train / "ant/more").symlink_to(elsewhere / "ants")
    (train / "ant/again").symlink_to(elsewhere / "ants")
    (train / "ant/up").symlink_to("..")
    (train / "bee/self").symlink_to(".")
    (elsewhere / "ants/loop").symlink_to(train / "ant")
    (tmp_path / "linked").symlink_to(tmp_path / "set")
    for root in (tmp_path / "set", tmp_path / "linked"):
        source = resolve(f"folder:{root}", "train")
        below = ("ant/3.png", "ant/again/1.png", "bee/2.png", "cat/0.png")
        assert ids(source) == [f"train/{name}" for name in below]
        assert all(source[n]["image"] == PIXEL for n in range(4))


def test_a_changed_folder_is_listed_again_and_no_other(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKJAX_CACHE", str(tmp_path / "cache"))
    listed = []
    scan = files.scan
    monkeypatch.setattr(files, "scan", lambda path: listed.append(path) or scan(path))
    classes = [f"{image_folder}/train/{name}" for name in ("ant", "bee")]
    for folder in classes:
        os.utime(folder, (1000, 1000))

    def listing():
        listed.clear()
        found = ids(resolve(f"folder:{image_folder}", "train"))
        return found, [path for path in listed if path in classes]

    first, looked_at = listing()
    assert looked_at == classes
    assert listing() == (first, [])
    write(image_folder / "train/bee/2.png", PIXEL)
    (image_folder / "train/bee/0.png").unlink()
    again, looked_at = listing()
    assert (len(again), again[-1]) == (4, "train/bee/2.png")
    assert looked_at == classes[1:]


def test_validation_by_another_name(image_folder):
    (image_folder / "test").rename(image_folder / "validation")
    assert len(resolve(f"folder:{image_folder}", "val")) == 2


def test_a_split_is_not_a_class(image_folder):
    with pytest.raises(UserError, match="holds several splits, name one of them: test, train"):
        resolve(f"folder:{image_folder}", "all")
    (image_folder / "test/bee").rename(image_folder / "test/images")
    with pytest.raises(UserError, match=r"test holds images, of which none is a class .*ant, bee"):
        resolve(f"folder:{image_folder}", "test")


def test_pickles(image_folder):
    source = resolve(f"folder:{image_folder}", "train")
    assert pickle.loads(pickle.dumps(source))[2] == source[2]
