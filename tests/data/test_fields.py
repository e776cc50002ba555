"""Transforms may return one image or named arrays of any kind; the iterators fill in the rest."""

import numpy as np
import pytest

from maskjax.data.evaluate import evaluation_batches
from maskjax.data.fields import as_fields, stack
from maskjax.data.source import resolve
from maskjax.data.train import train_iterator
from maskjax.errors import UserError


class Pair:
    """Two pictures and a coordinate of each example."""

    def __call__(self, example, rng=None):
        image = example["image"]
        return {"left": image, "right": image[:, ::-1], "point": np.float32([image.mean(), 1])}


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches_hold_what_the_transform_returns(workers):
    source = resolve("synthetic:6x4x3:10:5", "train")
    with train_iterator(source, Pair(), seed=0, global_batch=8, workers=workers) as stream:
        batch = next(stream)
    assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
        "left": (np.uint8, (8, 6, 4, 3)),
        "right": (np.uint8, (8, 6, 4, 3)),
        "point": (np.float32, (8, 2)),
        "label": (np.int32, (8,)),
        "position": (np.uint32, (8, 2)),
    }
    assert np.array_equal(batch["left"], batch["right"][:, :, ::-1])


def test_evaluation_pads_every_field():
    source = resolve("synthetic:6x4x3:3:5", "test")
    (batch,) = evaluation_batches(source, Pair(), batch_size=5)
    assert set(batch) == {"left", "right", "point", "label", "valid", "position"}
    assert all(len(value) == 5 for value in batch.values())
    assert batch["valid"].tolist() == [True] * 3 + [False] * 2
    assert not any(batch[name][3:].any() for name in ("left", "right", "point"))
    assert batch["label"][3:].tolist() == [-1, -1]
    assert np.array_equal(batch["left"][2], source[2]["image"])


@pytest.mark.parametrize("made", [None, {}, b"jpeg", [1, 2]])
def test_other_results_are_refused(made):
    with pytest.raises(UserError, match="transform of example 'cat' must return an array or"):
        as_fields(made, "cat")


@pytest.mark.parametrize("name", ["label", "position", "id", "valid"])
def test_fields_of_the_iterators_are_refused(name):
    with pytest.raises(UserError, match=f"returns a field '{name}'"):
        as_fields({"image": np.zeros(3), name: np.zeros(1)})


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"a": np.zeros(3)}, r"'a' is float64\[2\] and float64\[3\]"),
        ({"a": np.zeros(2, np.uint8)}, r"'a' is float64\[2\] and uint8\[2\]"),
        ({"a": np.zeros(2), "b": np.zeros(1)}, r"'b' is absent and float64\[1\]"),
    ],
)
def test_rows_that_do_not_fit_are_named(other, difference):
    with pytest.raises(UserError, match=f"'x' and 'y' do not fit in one batch: {difference}"):
        stack([{"a": np.zeros(2)}, other], ["x", "y"])
