"""Looking a data set through: what each example is, what is broken, what is there twice."""

import csv
import io
import os
import signal

import numpy as np
import pytest
from image_files import encode, write
from PIL import Image

from maskjax.data.check import Summary, lines, write_csv
from maskjax.data.decode import Decoding
from maskjax.data.inspect import Facts, Inspector
from maskjax.data.source import resolve
from maskjax.data.walk import walk
from maskjax.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
GREY = PIXELS[..., 0]


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def bomb() -> bytes:
    """A small file of a very large picture."""
    data = io.BytesIO()
    Image.new("1", (60_000, 4_000)).save(data, "PNG")
    return data.getvalue()


JPEG = encode(PIXELS, "JPEG")
# name -> (content, what is said about it)
FINE = {
    "rgb.png": (encode(PIXELS), ("PNG", "RGB", ())),
    "grey.jpg": (encode(GREY, "JPEG"), ("JPEG", "L", ())),
    "deep.png": (encode(GREY.astype(np.uint16) * 256), ("PNG", "I;16", ("I;16",))),
    "alpha.png": (encode(np.dstack([PIXELS, GREY])), ("PNG", "RGBA", ("RGBA",))),
    "turned.jpg": (encode(PIXELS, "JPEG", exif=exif(6)), ("JPEG", "RGB", ("turned by EXIF",))),
}
BROKEN = {
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "text.jpg": b"<html>404</html>",
    "empty.jpg": b"",
    "bomb.png": bomb(),
}


@pytest.fixture
def folder(tmp_path):
    """DIR/train/{bad,fine}/... with every file above, and one of them again."""
    for name, (data, _) in FINE.items():
        write(tmp_path / "train/fine" / name, data)
    for name, data in BROKEN.items():
        write(tmp_path / "train/bad" / name, data)
    write(tmp_path / "train/bad/again.jpg", FINE["grey.jpg"][0])
    return tmp_path


def look_through(folder, workers=0):
    source = resolve(f"folder:{folder}", "train")
    chunks = walk(Inspector(source, Decoding()), range(len(source)), workers)
    return source, [facts for chunk in chunks for facts in chunk]


def test_every_example_is_described(folder):
    _, found = look_through(folder)
    by_name = {facts.id.removeprefix("train/"): facts for facts in found}
    for name, (data, (kind, mode, remarks)) in FINE.items():
        facts = by_name[f"fine/{name}"]
        assert (facts.format, facts.mode, facts.remarks) == (kind, mode, remarks)
        assert (facts.problem, facts.bytes, facts.label) == ("", len(data), 1)
        turned = "turned by EXIF" in remarks
        assert (facts.height, facts.width) == ((60, 40) if turned else (40, 60))
    for name in BROKEN:
        assert f"bad/{name}" in by_name[f"bad/{name}"].problem
    assert [facts.number for facts in found] == list(range(10))


def test_processes_find_the_same(folder):
    assert look_through(folder, workers=2)[1] == look_through(folder)[1]


def test_the_summary(folder):
    source, found = look_through(folder)
    summary = Summary(source)
    for facts in found:
        summary.add(facts)
    about = summary.as_dict()
    assert about["examples"] == 10
    assert about["bytes"] == sum(facts.bytes for facts in found)
    assert {entry["id"] for entry in about["broken"]} == {f"train/bad/{name}" for name in BROKEN}
    assert about["duplicates"] == [["train/bad/again.jpg", "train/fine/grey.jpg"]]
    assert about["classes"] == {"bad": 5, "fine": 5}
    assert about["size"] == {"smallest": [40, 60], "median": [40, 60], "largest": [60, 40]}
    assert about["short_side"] == {"32-63": 6}
    assert about["remarks"] == {"I;16": 1, "RGBA": 1, "turned by EXIF": 1}
    text = "\n".join(lines(summary, limit=2))
    assert "duplicates: 1" in text
    assert "broken: 4" in text
    assert "... 2 more" in text


def test_duplicates_of_any_number_and_none_that_only_look_alike():
    class Source:
        class_names = None

        def __len__(self):
            return 6

        def __getitem__(self, number):
            picture = np.full((2, 3, 1), number % 2, np.uint8)
            return {
                "id": f"n{number}",
                "image": picture.reshape(3, 2, 1) if number == 5 else picture,
            }

    source = Source()
    summary = Summary(source)
    for chunk in walk(Inspector(source, Decoding()), range(6), 0):
        for facts in chunk:
            summary.add(facts)
    assert summary.duplicates == [["n0", "n2", "n4"], ["n1", "n3"]]


def test_empty_classes_and_unlabelled_data_are_told():
    class Source:
        class_names = ("cat", "dog", "emu")

    summary = Summary(Source())
    for number, label in enumerate([0, 0, 1]):
        summary.add(Facts(number, str(number), label, 8, 8, "PNG", "RGB", 10, number + 1))
    assert summary.classes() == {"cat": 2, "dog": 1, "emu": 0}
    assert "without examples: emu" in "\n".join(lines(summary))
    Source.class_names = None
    assert Summary(Source()).classes() == {}


def test_csv_has_a_line_for_each(folder):
    _, found = look_through(folder)
    file = io.StringIO()
    write_csv(found, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["id"] for row in rows] == [facts.id for facts in found]
    assert {row["id"] for row in rows if row["problem"]} == {f"train/bad/{name}" for name in BROKEN}


def test_a_transform_has_to_work_too(folder):
    source = resolve(f"folder:{folder}", "train")

    def refuses(example):
        raise UserError(f"no depth for {example['id']}")

    number = source.ids().index("train/fine/rgb.png")
    assert "no depth" in Inspector(source, Decoding(), refuses)(number).problem


def dies_at_40(number):
    """Kills its process at example 40."""
    if number == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_dies_is_named():
    with pytest.raises(UserError, match=r"a worker process died .* at: example 40"):
        list(walk(dies_at_40, range(1000), 2))


@pytest.mark.parametrize("count", [0, 1, 32, 33, 100])
def test_walk_goes_over_all_in_order(count):
    assert [n for chunk in walk(lambda number: number, range(count), 0) for n in chunk] == list(
        range(count)
    )
