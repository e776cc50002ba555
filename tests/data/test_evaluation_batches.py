"""Every image exactly once, in full batches, the same number of them on every process."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskjax.data.evaluate import evaluation_batches
from maskjax.data.source import resolve
from maskjax.data.transforms import EvalTransform
from maskjax.errors import UserError

TRANSFORM = EvalTransform((4, 4), channels=1)


def batches_of_each_process(count, rows, processes, labelled=True, **options):
    source = resolve(f"synthetic:4x4x1:{count}" + (":3" if labelled else ""), "test")
    runs = [
        list(
            evaluation_batches(
                source,
                TRANSFORM,
                batch_size=rows * processes,
                process_index=index,
                process_count=processes,
                **options,
            )
        )
        for index in range(processes)
    ]
    return source, runs


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_every_image_exactly_once(count, rows, processes):
    source, runs = batches_of_each_process(count, rows, processes)
    assert {len(run) for run in runs} == {-(-count // (rows * processes))}
    seen = []
    for step in zip(*runs, strict=True):
        # Blocks of the processes one after another: the order of the source.
        image, label, valid, position = (
            np.concatenate([batch[key] for batch in step])
            for key in ("image", "label", "valid", "position")
        )
        assert len(image) == rows * processes
        numbers = position[:, 0].astype(int) * 2**32 + position[:, 1]
        seen += numbers[valid].tolist()
        assert (label[~valid] == -1).all()
        assert not image[~valid].any()
        for row in np.flatnonzero(valid):
            assert np.array_equal(image[row], source[numbers[row]]["image"])
            assert label[row] == source[numbers[row]]["label"]
    assert seen == list(range(count))


class Counted:
    """A source that notes what is read of it, and cannot read some."""

    def __init__(self, size, broken=()):
        self.size, self.broken, self.read = size, set(broken), []
        self.class_names = None

    def __len__(self):
        return self.size

    def __getitem__(self, number):
        self.read.append(number)
        if number in self.broken:
            raise UserError(f"cannot read {number}.png")
        picture = np.full((4, 4, 1), number, np.uint8)
        return {"image": picture, "label": number % 3, "id": f"{number}.png"}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
def test_every_image_is_read_exactly_once(count, rows, processes):
    """But for a process without any: it reads one, to know what padding looks like."""
    read = []
    for index in range(processes):
        source = Counted(count)
        list(
            evaluation_batches(
                source,
                TRANSFORM,
                batch_size=rows * processes,
                process_index=index,
                process_count=processes,
            )
        )
        mine = {n for n in range(count) if n // rows % processes == index}
        assert sorted(source.read) == (sorted(mine) or [0])
        read += source.read if mine else []
    assert sorted(read) == list(range(count))


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(2, 40), st.integers(1, 9), st.integers(1, 4))
def test_skipped_images_are_left_out_on_any_number_of_processes(data, count, rows, processes):
    broken = data.draw(st.sets(st.integers(0, count - 1), max_size=min(count - 1, 30)))
    seen = []
    for index in range(processes):
        for batch in evaluation_batches(
            Counted(count, broken),
            TRANSFORM,
            batch_size=rows * processes,
            process_index=index,
            process_count=processes,
            ids=True,
            on_error="skip",
        ):
            assert all(len(value) == rows for value in batch.values())
            valid = batch["valid"]
            assert (batch["label"][~valid] == -1).all()
            assert not batch["image"][~valid].any()
            assert [bool(name) for name in batch["id"]] == valid.tolist()
            seen += batch["position"][valid, 1].tolist()
    assert sorted(seen) == sorted(set(range(count)) - broken)


def test_skipped_images_are_named(caplog):
    list(evaluation_batches(Counted(5, {3}), TRANSFORM, batch_size=2, on_error="skip"))
    assert "left out of the evaluation: example 3: cannot read 3.png" in caplog.text


def test_too_many_skipped_images_are_an_error():
    source = Counted(100, range(0, 100, 2))
    with pytest.raises(UserError, match=r"(?s)of the \d+ evaluation examples.*0\.png"):
        list(evaluation_batches(source, TRANSFORM, batch_size=10, on_error="skip"))


def test_no_usable_image_at_all():
    with pytest.raises(UserError, match="no example of the evaluation source can be used"):
        list(evaluation_batches(Counted(3, {0, 1, 2}), TRANSFORM, batch_size=3, on_error="skip"))


def test_types():
    _, ((batch, *_),) = batches_of_each_process(5, 4, 1)
    assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
        "image": (np.uint8, (4, 4, 4, 1)),
        "label": (np.int32, (4,)),
        "valid": (bool, (4,)),
        "position": (np.uint32, (4, 2)),
    }


def test_ids_on_request():
    _, (run,) = batches_of_each_process(5, 4, 1, ids=True)
    ids = [name for batch in run for name in batch["id"]]
    assert ids == [f"{number:06d}" for number in range(5)] + [""] * 3


def test_without_labels():
    _, (run,) = batches_of_each_process(5, 4, 1, labelled=False)
    assert "label" not in run[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5, "process_count": 2}, "positive multiple of the 2 processes, found 5"),
        ({"batch_size": 0}, "found 0"),
        ({"batch_size": 4, "process_index": 2, "process_count": 2}, "process_index 2 is not one"),
    ],
)
def test_wrong_counts_are_told_before_the_first_batch(options, message):
    with pytest.raises(UserError, match=message):
        evaluation_batches(resolve("synthetic:4x4x1:5", "test"), TRANSFORM, **options)


def test_empty_source():
    with pytest.raises(UserError, match="the evaluation source is empty"):
        evaluation_batches([], TRANSFORM, batch_size=4)


def test_a_broken_image_is_named(image_folder):
    (image_folder / "train/bee/1.png").write_bytes(b"???")
    source = resolve(f"folder:{image_folder}", "train")
    stream = evaluation_batches(source, EvalTransform((4, 4)), batch_size=2)
    next(stream)
    with pytest.raises(UserError, match=r"cannot decode image 'train/bee/1.png'"):
        next(stream)
