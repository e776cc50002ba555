"""Host batches on their way to the devices."""

import time

import jax
import numpy as np
import pytest

from maskjax.train.feed import DeviceBatches, to_devices
from maskjax.train.sharding import batch_sharding, make_mesh


@pytest.fixture(scope="module")
def rows():
    return batch_sharding(make_mesh({"data": 4, "fsdp": 2}))


def batch(number: int) -> dict[str, np.ndarray]:
    return {
        "image": np.full((16, 2, 2, 1), number, np.uint8),
        "position": np.arange(32, dtype=np.uint32).reshape(16, 2),
    }


def test_rows_are_spread_over_the_devices_in_order(rows):
    made = to_devices(batch(7), rows)
    assert made["image"].dtype == np.uint8
    assert made["image"].sharding == rows
    for name, array in made.items():
        assert np.array_equal(np.asarray(array), batch(7)[name])
    devices = list(rows.mesh.devices.flat)
    for shard in made["position"].addressable_shards:
        first = 2 * devices.index(shard.device)
        assert np.array_equal(np.asarray(shard.data), batch(7)["position"][first : first + 2])


def test_a_batch_that_does_not_divide_is_an_error(rows):
    with pytest.raises(ValueError, match=r"12|8"):
        to_devices({"image": np.zeros((12, 1), np.uint8)}, rows)


class Counted:
    """Endless batches; knows how many were asked for."""

    def __init__(self):
        self.asked = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        return batch(self.asked - 1)


def test_one_batch_ahead_and_not_more(rows):
    source = Counted()
    batches = DeviceBatches(source, rows)
    assert source.asked == 0
    for number in range(5):
        assert int(next(batches)["image"][0, 0, 0, 0]) == number
        assert source.asked == number + 2


def test_a_finite_iterator_loses_nothing(rows):
    for length in (0, 1, 3):
        found = DeviceBatches(iter([batch(n) for n in range(length)]), rows)
        assert [int(b["image"][0, 0, 0, 0]) for b in found] == list(range(length))


def test_the_copies_are_no_implicit_transfers(rows):
    batches = DeviceBatches(Counted(), rows)
    with jax.transfer_guard("disallow"):
        next(batches)
        next(batches)


class Slow(Counted):
    def __next__(self):
        time.sleep(0.02)
        return super().__next__()


def test_the_share_of_the_time_that_went_into_waiting(rows):
    batches = DeviceBatches(Slow(), rows)
    for _ in range(5):
        next(batches)
    start = time.monotonic()
    assert 0 < batches.wait_share() <= 1
    assert batches.wait_share() == 0
    next(batches)
    assert batches.wait_share() >= 0.02 / (time.monotonic() - start)
