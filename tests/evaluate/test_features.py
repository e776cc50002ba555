"""Features of every image, once, in order."""

import types

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maskjax.errors import UserError
from maskjax.evaluate import baselines
from maskjax.evaluate.features import extract, join_position
from maskjax.evaluate.hosts import gather, local_rows, total


def batches(num, size, *, order=None, labels=True, start=0):
    """A padded evaluation iterator over images whose pixels are their position."""
    order = np.arange(num) if order is None else order
    for first in range(0, num, size):
        rows = np.resize(order[first : first + size], size)  # padding repeats real rows
        words = np.stack([(rows + start) >> 32, (rows + start) & 0xFFFFFFFF], 1)
        batch = {
            "image": np.full((size, 2, 3, 1), 0, np.uint8) + np.uint8(rows)[:, None, None, None],
            "position": words.astype(np.uint32),
            "valid": np.arange(size) < min(size, num - first),
        }
        yield batch | ({"label": rows % 3} if labels else {})


def encode(batch):
    value = np.float32(batch["image"].reshape(len(batch["image"]), -1))
    return {"cls": value[:, :2], "mean": value * 2, "tokens": value}


@given(st.integers(1, 40), st.integers(1, 16), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_every_image_once_in_order(num, size, random):
    order = np.array(random.sample(range(num), num))
    found = extract(encode, batches(num, size, order=order))
    assert found.position.tolist() == list(range(num))
    assert found.cls[:, 0].tolist() == list(range(num))
    assert (found.mean == 2 * np.arange(num)[:, None]).all()
    assert found.label.tolist() == [i % 3 for i in range(num)]
    assert (found.cls.dtype, found.label.dtype) == (np.float32, np.int32)


def test_positions_of_two_words():
    assert join_position(np.uint32([[1, 5], [0, 7]])).tolist() == [2**32 + 5, 7]
    found = extract(encode, batches(3, 2, start=2**40))
    assert found.position.tolist() == [2**40, 2**40 + 1, 2**40 + 2]


def test_sharded_outputs_keep_their_order():
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "tensor"))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    sharded = lambda batch: jax.device_put(encode(batch), rows)  # noqa: E731
    found = extract(sharded, batches(11, 4))
    plain = extract(encode, batches(11, 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, plain, strict=True))
    array = jax.device_put(np.arange(8), rows)
    assert local_rows(array).tolist() == list(range(8))
    assert gather(np.arange(3)).tolist() == [0, 1, 2]
    assert total(np.float32([1, 2])).tolist() == [1, 2]


class _OneProcessOfTwo:
    """An array of which this process holds the last two of four rows, in two copies."""

    is_fully_addressable = False

    def __init__(self):
        self.addressable_shards = [
            types.SimpleNamespace(index=(slice(start, start + 1),), data=np.array([10 * start]))
            for start in (3, 2, 3, 2)
        ]


def test_rows_of_one_process_come_sorted_and_once():
    assert local_rows(_OneProcessOfTwo()).tolist() == [20, 30]


def test_faults_are_named():
    with pytest.raises(UserError, match="no images"):
        extract(encode, iter(()))
    with pytest.raises(ValueError, match="same image twice"):
        extract(encode, batches(4, 2, order=np.array([0, 1, 1, 2])))
    with pytest.raises(ValueError, match="1 rows for 2 images"):
        extract(lambda batch: {k: v[:1] for k, v in encode(batch).items()}, batches(4, 2))
    found = extract(encode, batches(4, 2, labels=False))
    with pytest.raises(UserError, match="knn needs labels"):
        found.labels("knn")
    with pytest.raises(UserError, match="mean and cls"):
        found.pooled("max")


def test_raw_pixels(monkeypatch):
    train, test = baselines.raw_pixels(batches(5, 2), batches(3, 2))
    assert train.mean.shape == (5, 6)
    assert train.cls is train.mean
    expected = (np.arange(5) - 2) / np.sqrt(2)
    np.testing.assert_allclose(train.mean, np.tile(expected[:, None], 6), rtol=1e-6)
    np.testing.assert_allclose(test.mean[:, 0], expected[:3], rtol=1e-6)
    monkeypatch.setattr(baselines, "_MOST_BYTES", 100.0)
    with pytest.raises(UserError, match="raw pixels of images of 2 x 3 x 1"):
        baselines.raw_pixels(batches(40, 2), batches(40, 2))
