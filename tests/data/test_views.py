"""Several views of each image: next to each other, decoded once, the same however they are cut."""

import io
import time

import numpy as np
import pytest
from bad_sources import Numbered, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskjax.data.order import training_order
from maskjax.data.pipeline import Buffers, Chunks, Plan
from maskjax.data.rows import RowMaker
from maskjax.data.train import train_iterator
from maskjax.data.transforms import TrainTransform
from maskjax.data.workers import Notes


class Counting(Numbered):
    """Notes what is read of it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = []

    def __getitem__(self, number):
        self.read.append(number)
        return super().__getitem__(number)


def rows(source, count, *, transform=picture, size=8, processes=1, start=0, **options):
    """The first rows of the stream, from batches of all processes."""
    parts = []
    for index in range(processes):
        with train_iterator(
            source,
            transform,
            seed=2,
            global_batch=size,
            process_index=index,
            process_count=processes,
            start=start,
            **options,
        ) as stream:
            parts.append([next(stream) for _ in range(-(-count // size))])
    flat = [part for step in zip(*parts, strict=True) for part in step]
    return {key: np.concatenate([part[key] for part in flat])[:count] for key in flat[0]}


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 5),
    st.sampled_from([(2, 1), (6, 1), (6, 3), (8, 2), (30, 1), (40, 4)]),
    st.integers(0, 20),
)
def test_views_do_not_depend_on_batches_processes_or_the_start(views, cut, start):
    size, processes = cut
    source = Numbered()
    whole = rows(source, 60, size=60, views=views)
    got = rows(source, 40, size=size, processes=processes, start=start, views=views)
    for key in whole:
        assert np.array_equal(got[key][: 60 - start], whole[key][start : start + 40])
    for image in range(0, 60 - views, views):
        assert len(set(whole["image"][image : image + views, 3, 3, 0])) == 1


def chunks(source, transform, views):
    """The first 72 rows, made here and now: nothing is read ahead."""
    options = {"seed": 2, "views": views, "on_error": "error", "notes": Notes()}
    make = RowMaker(source, transform, **options)
    plan = Plan(72, 0, 1, 0, views)
    made = Chunks(training_order(source, 2), make, plan)
    return [made[number] for number in range(plan.chunks)]


def test_an_image_is_read_once_for_all_of_its_views():
    source = Counting()
    got = chunks(source, picture, views=3)
    order = training_order(source, 2)
    assert source.read == [order[image] for image in range(24)]
    seen = np.concatenate([chunk["image"][:, 3, 3, 0] for chunk in got])
    assert seen.tolist() == [number for number in source.read for _ in range(3)]


class Decoding:
    """A transform that counts how often it decodes."""

    def __init__(self):
        self.decoded = 0

    def __call__(self, example, rng):
        return self.views(example, [rng])[0]

    def views(self, example, rngs):
        """One of them for each generator."""
        self.decoded += 1
        return [picture(example, rng) for rng in rngs]


def test_a_transform_that_can_decode_once_does():
    transform = Decoding()
    expected, got = chunks(Numbered(), picture, 4), chunks(Numbered(), transform, 4)
    for one, other in zip(got, expected, strict=True):
        assert np.array_equal(one["image"], other["image"])
    assert transform.decoded == 72 / 4


class Photos:
    """JPEG files."""

    class_names = None

    def __len__(self):
        return 5

    def __getitem__(self, number):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG")
        return {"image": data.getvalue(), "id": str(number)}


def test_the_image_transform_gives_the_views_that_it_gives_one_by_one():
    transform = TrainTransform((16, 16), scale=(0.1, 1.0))
    got = rows(Photos(), 24, views=3, transform=transform)
    # A function has no method `views`.
    expected = rows(Photos(), 24, views=3, transform=lambda *args: transform(*args))
    assert np.array_equal(got["image"], expected["image"])


@pytest.mark.parametrize("size", [8, 40, 400])
def test_no_more_is_read_ahead_than_is_said(size):
    source = Counting(1000)
    with train_iterator(source, picture, seed=0, global_batch=size) as stream:
        for _ in range(3):
            next(stream)
        time.sleep(0.5)
        # Three batches are used, one is finished, one is in the making.
        assert len(source.read) <= 5 * size + stream.buffers.rows


@given(
    st.integers(1, 5000),
    st.integers(1, 20),
    st.integers(0, 64),
    st.integers(1, 16),
)
def test_what_is_read_ahead_is_bounded_and_enough(rows_of_batch, views, workers, threads):
    plan = Plan(rows_of_batch, 0, 1, 0, views)
    buffers = Buffers.of(plan, workers, threads)
    chunk = plan.chunk
    assert chunk <= max(16 + views, views)
    each = buffers.rows
    busy = (2 * threads + 2) * chunk
    assert each <= max(busy, 2 * (rows_of_batch + chunk) / max(1, workers) + 2 * chunk)
    assert each * max(1, workers) >= 2 * rows_of_batch


@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 9), st.integers(0, 1000))
def test_chunks_cover_every_row_once(rows_of_process, processes, views, start):
    size = rows_of_process * processes
    for index in range(processes):
        plan = Plan(size, index, processes, start, views)
        got = [position for n in range(2 * plan.chunks) for position in plan.positions(n)]
        first = start + index * rows_of_process
        block = range(first, first + rows_of_process)
        assert got == [*block, *(position + size for position in block)]
