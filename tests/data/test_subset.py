"""Examples chosen by a file of ids."""

import pickle

import pytest
from image_files import encode, write

from maskjax.data.ids import source_ids
from maskjax.data.source import resolve
from maskjax.data.subset import find_ids, select_ids
from maskjax.errors import UserError


@pytest.fixture
def choose(tmp_path, image_folder):
    """(lines of the file, spec) -> ids chosen."""

    def run(text, spec=f"folder:{image_folder}"):
        path = tmp_path / "ids.txt"
        path.write_text(text)
        source = select_ids(resolve(spec, "train"), str(path))
        assert source.ids() == [source[number]["id"] for number in range(len(source))]
        return source.ids()

    return run


def test_ids_in_the_order_of_the_source(choose):
    text = "# two of four\ntrain/bee/0.png\n\ntrain/ant/1.png\n"
    assert choose(text) == ["train/ant/1.png", "train/bee/0.png"]


def test_file_names_and_stems(choose, image_folder, pictures):
    write(image_folder / "train/ant/n01_7.png", encode(pictures[0]))
    write(image_folder / "train/bee/n02_9.png", encode(pictures[0]))
    assert choose("n01_7.png\nn02_9\n") == ["train/ant/n01_7.png", "train/bee/n02_9.png"]


def test_a_name_may_have_an_extension_that_the_ids_lack():
    assert find_ids(["00/n01_7", "01/n02_9"], ["n02_9.JPEG", "n03_1.JPEG"]) == [[1], []]


def test_a_source_that_cannot_tell_its_ids_is_read(choose):
    assert choose("astronaut\ncoins", "photos") == ["astronaut", "coins"]


def test_ids_that_were_read_are_kept_and_checked(monkeypatch):
    class Named:
        class_names = None

        def __init__(self, names):
            self.names, self.reads = names, []

        def __len__(self):
            return len(self.names)

        def __getitem__(self, index):
            self.reads.append(index)
            return {"id": self.names[index]}

    monkeypatch.setattr(pickle, "dumps", lambda source: b"named" + bytes([len(source) // 256]))
    names = [f"ü{number}" for number in range(1000)]
    first, again, changed = Named(names), Named(names), Named(names[::-1])
    for source in (first, again, changed):
        assert list(source_ids(source)) == source.names
    assert [len(first.reads), len(again.reads)] == [1000, 64]
    assert len(changed.reads) == 1064


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train/ant/0.png\nx.png\ny.png", r"names 2 of 3 examples .* not have: x.png, y.png; its"),
        ("0.png", r"0.png could be several examples"),
        ("train/ant/0.png\ntrain/ant/0.png", "twice: 'train/ant/0.png' and"),
        ("\n# none\n", "names no example"),
    ],
)
def test_refusals(choose, text, message):
    with pytest.raises(UserError, match=rf"config.data.subset = '.*ids.txt'.*{message}"):
        choose(text)


def test_no_file(image_folder):
    with pytest.raises(UserError, match=r"config.data.subset = '/none': cannot read /none"):
        select_ids(resolve(f"folder:{image_folder}", "train"), "/none")
