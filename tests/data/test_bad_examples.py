"""Unusable training examples: an error that names them, or the next usable one in their place."""

import time

import numpy as np
import pytest
from bad_sources import (
    GOOD,
    Numbered,
    picture,
    picture_killed_at_5,
    picture_that_exits,
    picture_with_a_bug,
    picture_with_an_odd_error,
    slow_picture,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data.examples import FORGIVEN, IN_A_ROW
from maskjax.data.order import training_order
from maskjax.data.random import host_rng
from maskjax.data.train import train_iterator
from maskjax.errors import UserError

BROKEN = {
    "unreadable": UserError("cannot read image /data/x.jpg: gone"),
    "vanished": FileNotFoundError("[Errno 2] No such file: '/data/x.jpg'"),
    "damaged": KeyError("offset"),
    "no image": {"image": b"???"},
    "label out of range": {"label": 2},
    "label negative": {"label": -1},
    "label no number": {"label": "cat"},
    "label a float": {"label": 1.0},
    "label a bool": {"label": True},
    "no id": {"id": None},
}
SKIP = {"on_error": "skip"}


def take(source, batches=3, size=8, processes=1, transform=picture, **options):
    """The batches of all processes after one another, and the bad examples that they met."""
    runs, bad = [], []
    for index in range(processes):
        with train_iterator(
            source,
            transform,
            seed=1,
            global_batch=size,
            process_index=index,
            process_count=processes,
            **options,
        ) as stream:
            runs.append([next(stream) for _ in range(batches)])
            bad += stream.tally.bad
    steps = [[run[n] for run in runs] for n in range(batches)]
    flat = [part for step in steps for part in step]
    return {key: np.concatenate([part[key] for part in flat]) for key in flat[0]}, sorted(bad)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("problem", BROKEN)
def test_error_names_the_example(problem):
    with pytest.raises(UserError, match=r"id 5|/data/x\.jpg|example 5"):
        take(Numbered(bad={5: BROKEN[problem]}))


@pytest.mark.parametrize("problem", BROKEN)
def test_skip_takes_the_next_one_of_the_source(problem):
    clean, none = take(Numbered())
    got, bad = take(Numbered(bad={5: BROKEN[problem]}), **SKIP)
    assert none == []
    was = clean["image"][:, 3, 3, 0]
    assert (was == 5).sum() == 2
    assert got["image"][:, 3, 3, 0].tolist() == [6 if number == 5 else number for number in was]
    assert got["label"].tolist() == [0 if number == 5 else number % 2 for number in was]
    # The draws belong to the position, not to the example.
    assert np.array_equal(got["image"][:, 0, 1], clean["image"][:, 0, 1])
    assert np.array_equal(got["position"], clean["position"])
    positions = np.flatnonzero(was == 5)
    assert [one.position for one in bad] == positions.tolist()
    assert all(one.id in ("id 5", "example 5") and one.reason for one in bad)


@settings(deadline=None, max_examples=40)
@given(
    st.sets(st.integers(0, GOOD - 1), max_size=GOOD - 1),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 30),
    st.integers(1, 3),
)
def test_what_is_skipped_does_not_depend_on_processes_or_where_a_run_was_resumed(
    broken, processes, start, views
):
    source = Numbered(bad=dict.fromkeys(broken, BROKEN["unreadable"]))
    options = {**SKIP, "bad_share": 1.0, "views": views, "start": start}
    got, bad = take(source, batches=2, processes=processes, **options)
    order = training_order(source, 1)
    expected, passed = [], []
    for position in range(start, start + 16):
        number = order[position // views]
        while number in broken:
            passed.append((position // views, f"id {number}"))
            number = (number + 1) % GOOD
        expected.append((number, host_rng(1, "augment", position).integers(256)))
    assert [(row[3, 3, 0], row[0, 1, 0]) for row in got["image"]] == expected
    assert {(one.position // views, one.id) for one in bad} == set(passed)


def test_what_is_skipped_does_not_depend_on_workers():
    source = Numbered(bad={5: BROKEN["no image"], 6: BROKEN["vanished"], 0: {"label": 9}})
    options = {"size": 40, "bad_share": 0.5, **SKIP}
    expected = take(source, **options)
    got = take(source, workers=2, **options)
    assert same(got[0], expected[0])
    assert got[1] == expected[1]


def test_a_slow_worker_does_not_change_the_order():
    expected, _ = take(Numbered(), size=40, batches=2)
    assert same(
        take(Numbered(), size=40, batches=2, transform=slow_picture, threads=3)[0], expected
    )
    assert same(
        take(Numbered(), size=40, batches=2, transform=slow_picture, workers=2)[0], expected
    )


@pytest.mark.parametrize(("workers", "on_error"), [(0, "error"), (0, "skip"), (1, "skip")])
def test_a_bug_in_the_transform_is_no_bad_example(workers, on_error):
    with pytest.raises(RuntimeError, match="the transform failed on example 'id 5': KeyError") as e:
        take(Numbered(), transform=picture_with_a_bug, workers=workers, on_error=on_error)
    assert "picture_with_a_bug" in "".join(e.value.__notes__)


@pytest.mark.parametrize("transform", [picture_that_exits, picture_with_an_odd_error])
def test_no_way_out_of_a_worker_hangs(transform):
    with pytest.raises(RuntimeError, match="the transform failed on example"):
        take(Numbered(), transform=transform, workers=1)


@pytest.mark.parametrize(
    ("source", "transform", "what"),
    [
        (Numbered(bad={5: "kill"}), picture, "example 5"),
        (Numbered(), picture_killed_at_5, "id 5"),
    ],
)
def test_a_killed_worker_is_an_error_that_names_what_it_was_reading(source, transform, what):
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"exit code -9 \(killed.*working on '{what}'"):
        take(source, transform=transform, workers=2, **SKIP)
    assert time.monotonic() - start < 60


def test_many_in_a_row_are_an_error():
    gone = dict.fromkeys(range(40, 40 + IN_A_ROW), BROKEN["vanished"])
    with pytest.raises(UserError, match=rf"(?s){IN_A_ROW} training examples in a row .*id 4.*id 4"):
        take(Numbered(200, gone), batches=30, bad_share=1.0, **SKIP)


def test_one_less_in_a_row_is_not():
    gone = dict.fromkeys(range(40, 40 + IN_A_ROW - 1), BROKEN["vanished"])
    got, bad = take(Numbered(200, gone), batches=25, bad_share=1.0, **SKIP)
    assert {one.id for one in bad} == {f"id {number}" for number in gone}
    assert not set(gone) & set(got["image"][:, 3, 3, 0].tolist())


def test_a_source_without_any_usable_example():
    with pytest.raises(UserError, match=f"{GOOD} training examples in a row"):
        take(Numbered(bad=dict.fromkeys(range(GOOD), BROKEN["damaged"])), **SKIP)


def test_too_large_a_share_is_an_error():
    """Every second one: allowed while they are few, and not at all with a limit above a half."""
    source = Numbered(600, dict.fromkeys(range(0, 600, 2), BROKEN["vanished"]))
    batches = (FORGIVEN + 20) // 4
    with pytest.raises(
        UserError, match=r"(?s)cannot be used, more than 30 and a share of 0.05.*id"
    ):
        take(source, batches=batches, **SKIP)
    _, bad = take(source, batches=batches, bad_share=0.6, **SKIP)
    assert len(bad) > FORGIVEN


def test_too_large_a_share_is_told_before_the_batch_is_used():
    source = Numbered(400, dict.fromkeys(range(0, 400, 2), BROKEN["vanished"]))
    with train_iterator(source, picture, seed=1, global_batch=80, **SKIP) as stream:
        with pytest.raises(UserError, match="cannot be used"):
            next(stream)
        with pytest.raises(ValueError, match="was closed"):
            next(stream)


def test_the_count_is_of_rows_before_a_position():
    source = Numbered(bad={5: BROKEN["vanished"]})
    with train_iterator(source, picture, seed=1, global_batch=8, **SKIP) as stream:
        for _ in range(3):
            next(stream)
    order = training_order(source, 1)
    for position in (0, 3, 8, 24):
        assert stream.tally.count(position) == sum(order[p] == 5 for p in range(position))


def test_unknown_policy():
    with pytest.raises(UserError, match="on_error = 'ignore': must be one of error, skip"):
        train_iterator(Numbered(), picture, seed=0, global_batch=8, on_error="ignore")
