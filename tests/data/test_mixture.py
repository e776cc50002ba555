"""Mixtures: exact shares, epochs of the parts, one stream for every number of processes."""

import itertools
from collections import Counter

import numpy as np
import pytest
import streams
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import same

from maskjax.data.evaluate import evaluation_batches
from maskjax.data.order import training_order, window_rows
from maskjax.data.source import kind_of_spec, resolve
from maskjax.data.sources.mix import read, window_counts
from maskjax.data.transforms import EvalTransform, TrainTransform
from maskjax.data.wrap import MixSource, SubsetSource, select
from maskjax.errors import UserError

A, B, C = "synthetic:8x8x3:7:3", "synthetic:8x8x3:10:3", "synthetic:8x8x3:5:3"
SPEC = f"mix:0.5*{A} + 0.2*{B} + 0.3*{C}"


def numbers(spec=SPEC, seed=0, count=100, start=0):
    order = training_order(resolve(spec, "train"), seed)
    return [order[position] for position in range(start, start + count)]


def parts_of(found):
    return np.searchsorted([0, 7, 17, 22], found, side="right") - 1


def test_shares_are_exact_in_every_window():
    drawn = parts_of(numbers(count=200)).reshape(20, 10)
    assert [Counter(row) for row in drawn.tolist()] == [Counter({0: 5, 1: 2, 2: 3})] * 20
    assert len({tuple(row) for row in drawn.tolist()}) > 15


@settings(deadline=None, max_examples=50)
@given(
    weights=st.lists(st.fractions("1/20", 9, max_denominator=20), min_size=1, max_size=4),
    seed=st.integers(0, 2**64 - 1),
    window=st.integers(0, 2**40),
)
def test_window_counts_are_proportional(weights, seed, window):
    try:
        counts = window_counts(weights)
    except UserError as error:
        assert "rounder ones" in str(error)
        return
    assert len({weight / count for weight, count in zip(weights, counts, strict=True)}) == 1
    parts, ranks = window_rows(seed, counts, window)
    assert Counter(parts.tolist()) == Counter(dict(enumerate(counts)))
    assert all(ranks[parts == n].tolist() == list(range(c)) for n, c in enumerate(counts))


def test_every_part_goes_through_epochs_of_its_own():
    found = np.array(numbers(count=400))
    drawn = parts_of(found)
    for part, size in ((0, 7), (1, 10), (2, 5)):
        own = found[drawn == part]
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert (np.sort(epochs) == np.unique(own)).all()
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > len(epochs) / 2


def test_seeds_differ_and_access_is_random():
    assert numbers(seed=1) != numbers(seed=2)
    far = 10**12 + 3
    assert numbers(start=far, count=5) == numbers(start=far - 2, count=7)[2:]


def take(batches, size=10, spec=SPEC, **options):
    return streams.take(spec, TrainTransform((6, 6)), batches, size=size, **options)


@pytest.mark.parametrize(("processes", "workers"), [(2, 0), (5, 0), (1, 2)])
def test_the_stream_does_not_depend_on_processes_and_workers(processes, workers):
    assert same(take(4, processes=processes, workers=workers), take(4))


@settings(deadline=None, max_examples=10)
@given(start=st.integers(0, 30))
def test_resumes_anywhere(start):
    whole = take(4)
    got = take(1, start=start)
    assert same(got, {name: rows[start : start + 10] for name, rows in whole.items()})


def test_views_are_consecutive_and_differ():
    spec = "synthetic:8x8x3:6:6"
    one, three = take(1, spec=spec, size=6), take(3, spec=spec, size=6, views=3)
    assert three["label"].tolist() == np.repeat(one["label"], 3).tolist()
    assert len(np.unique(three["image"].reshape(18, -1), axis=0)) == 18
    assert same(take(9, spec=spec, size=2, views=3, processes=2), three)


def test_evaluation_reads_everything_once():
    source = resolve(SPEC, "test")
    batches = evaluation_batches(source, EvalTransform((8, 8)), batch_size=10, ids=True)
    rows = list(itertools.chain.from_iterable(batch["id"] for batch in batches))
    assert [name for name in rows if name] == source.ids()
    assert len(set(source.ids())) == 22
    assert source.ids()[7] == "1/000000"


def test_no_weights_make_one_pool():
    source = resolve(f"mix:{A} + {B}", "train")
    assert not isinstance(source, MixSource)
    order = training_order(source, 0)
    assert sorted(order[position] for position in range(17)) == list(range(17))


def test_labels():
    assert resolve(SPEC, "train")[8]["label"] == 1
    offset = resolve(f"{SPEC} | labels=offset", "train")
    assert [offset[n]["label"] for n in (0, 8, 18)] == [0, 4, 7]
    assert offset.class_names == ("class 0", "class 1", "class 2") * 3
    absent = resolve(f"{SPEC} | labels=absent", "train")
    assert "label" not in absent[3]
    assert absent.class_names is None


def test_splits_of_the_components():
    spec = f"mix:1*digits; train=test; test= + 1*{A} | labels=absent"
    assert len(resolve(spec, "train")) == 397 + 7
    assert len(resolve(spec, "test")) == 7
    assert len(resolve(spec, "train[:50%]")) == 198 + 4
    assert len(resolve(f"mix:1*digits; train=train[:10] + 1*{A} | labels=absent", "train")) == 17
    with pytest.raises(UserError, match="no component has the split 'test'"):
        resolve("mix:1*digits; test=", "test")


def test_a_subset_keeps_the_shares():
    mixture = resolve(SPEC, "train")
    chosen = select(mixture, [0, 1, 8, 20])
    assert isinstance(chosen, MixSource)
    assert chosen.ids() == ["0/000000", "0/000001", "1/000001", "2/000003"]
    assert chosen.counts == mixture.counts
    assert all(isinstance(part, SubsetSource) for part in chosen.parts)
    with pytest.raises(UserError, match=f"a share of {B}, but none of it is chosen"):
        select(mixture, [0, 20])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"mix:0.5*{A} + {B}", "every component a weight, or none"),
        (f"mix:0*{A} + 1*{B}", "has weight 0; leave it out"),
        (f"mix:1*mix:{A}", "a mixture cannot be part of another"),
        (f"mix:1*{A} | shuffle=yes", "after '|' comes labels=keep, offset or absent"),
        (f"mix:1*{A} | labels=maybe", "labels=maybe: must be one of keep, offset, absent"),
        (f"mix:1*{A}; train", "after ';' come pairs such as"),
        ("mix:", "cannot read ''"),
        (
            f"mix:1*{A} + 1*synthetic:8x8x3:5:4",
            "have different classes; choose labels=offset or absent",
        ),
        (f"mix:1*{A} + 1*synthetic:8x8x3:5", f"{A} has labels and .*:5 has none; labels=absent"),
        ("mix:1*synthetic:8x8x3:5 | labels=offset", "number of classes of .* is not known"),
        (f"mix:0.12345*{A} + 0.87654*{B}", "rounder ones: 123, 877"),
        (f"mix:1*{A} + 1*nothing:5", "unknown data source 'nothing:5'"),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(UserError, match=message):
        resolve(spec, "train")


def test_numbered_slices_of_a_mixture():
    with pytest.raises(UserError, match=r"write it behind one, SPEC; train=train\[:5\]"):
        resolve(SPEC, "train[:5]")


def test_specs_may_hold_the_signs():
    (first, second), labels = read(
        "2*parquet:/data/*.parquet + 0.5 * tfds:a@/a+b#image=b ;train=x | labels=keep"
    )
    assert (first.weight, first.spec) == (2, "parquet:/data/*.parquet")
    assert (second.spec, second.splits, labels) == ("tfds:a@/a+b#image=b", {"train": "x"}, "keep")
    assert kind_of_spec(SPEC) == "image"
