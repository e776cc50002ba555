"""Slices of splits: the boundaries that tensorflow_datasets takes, and clear refusals."""

import types

import layout_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data.source import resolve
from maskjax.data.splits import parse
from maskjax.errors import UserError

BOUNDARY = st.one_of(
    st.none(),
    st.integers(-100, 100).map(lambda n: f"{n}%"),
    st.decimals(0, 100, places=2).map(lambda n: f"{n}%"),
)


def by_tfds(split: str, size: int) -> range:
    splits = pytest.importorskip("tensorflow_datasets.core.splits")
    info = types.SimpleNamespace(num_examples=size)
    (part,) = splits._str_to_relative_instruction(split).to_absolute({"train": info})
    return range(part.from_ or 0, size if part.to is None else part.to)


@settings(deadline=None)
@given(low=BOUNDARY, high=BOUNDARY, size=st.integers(1, 2_000_000))
def test_per_cents_are_cut_as_by_tfds(low, high, size):
    split = f"train[{low or ''}:{high or ''}]"
    if low is high is None:
        return
    expected = by_tfds(split, size)
    if expected:
        assert parse(split)[0].numbers(size) == expected
    else:
        with pytest.raises(UserError, match="is empty"):
            parse(split)[0].numbers(size)


@pytest.mark.parametrize("split", ["train[100:200]", "train[-10:]", "train[:-3]", "train[:1_000]"])
@pytest.mark.parametrize("size", [1000, 1234])
def test_numbers_are_cut_as_by_tfds(split, size):
    assert parse(split)[0].numbers(size) == by_tfds(split, size)


def test_halves_go_to_the_even_example():
    """As `round` does: tfds's rule, without tfds."""
    assert [len(parse("train[:1%]")[0].numbers(size)) for size in (150, 250, 1281167)] == [
        2,
        2,
        12812,
    ]


def test_a_prepared_set_is_cut_where_tfds_cuts_it(tmp_path):
    read_only_builder = pytest.importorskip("tensorflow_datasets.core.read_only_builder")
    folder = layout_files.prepare_tfds(tmp_path, "array_record")
    builder = read_only_builder.builder_from_directory(folder)
    for split in ("train[:33%]", "train[50%:]", "train[3:5]", "train[-7%:]"):
        expected = [row["file_name"].decode() for row in builder.as_data_source(split)]
        source = resolve(f"tfds:{folder}", split)
        found = [source[number]["id"].rpartition("/")[2] for number in range(len(source))]
        assert found == expected


def test_every_source_has_slices():
    whole = resolve("digits", "train")
    part = resolve("digits", "train[10:20]")
    assert len(part) == 10
    assert part[3]["id"] == whole[13]["id"]
    assert np.array_equal(part[3]["image"], whole[13]["image"])
    assert part.class_names == whole.class_names
    assert part.ids() == [whole[number]["id"] for number in range(10, 20)]


def test_sums():
    both = resolve("digits", "train[:1%]+test[-5:]")
    assert len(both) == 14 + 5
    assert both[18]["id"] == resolve("digits", "test")[396]["id"]
    with pytest.raises(IndexError):
        both[19]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train[:2000]", r"'train\[:2000\]': 'train' has only 1400 examples"),
        ("train[:0.01%]", "is empty: 'train' has 1400 examples"),
        ("train[20:10]", "is empty"),
        ("train[10%:20]", "both boundaries in % or both as numbers"),
        ("train[:101%]", "per cents are -100"),
        ("train[:1.5]", "numbers of examples are whole"),
        ("train[:]", "cannot read the slice"),
        ("train[5]", "cannot read the slice"),
        ("train[:1shard]", "cannot read the slice"),
        ("train[:10%", "cannot read the split"),
        ("train+", "cannot read the split"),
        ("val[:10%]", "has no split 'val'"),
    ],
)
def test_refusals(split, message):
    with pytest.raises(UserError, match=message):
        resolve("digits", split)
