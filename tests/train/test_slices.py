"""Several TPU slices: which mesh axis crosses the slow network between them."""

import dataclasses

import numpy as np
import pytest

from maskjax.errors import UserError
from maskjax.train.sharding import make_mesh


@dataclasses.dataclass(frozen=True)
class Chip:
    """What jax asks of a TPU device to make a mesh."""

    id: int
    slice_index: int
    coords: tuple[int, int, int]
    process_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0
    client: None = None


def chips(slices: int) -> list[Chip]:
    """2 x 4 chips in each slice; not in the order of the slices."""
    places = [(s, x, y) for y in range(4) for x in range(2) for s in range(slices)]
    return [Chip(i, s, (x, y, 0)) for i, (s, x, y) in enumerate(places)]


@pytest.mark.parametrize(
    ("sizes", "crossing"),
    [
        ({"replica": 2, "data": -1, "fsdp": 2}, 0),
        ({"replica": 4, "data": -1}, 0),
        ({"data": -1, "fsdp": 4}, 1),
        ({"data": 2, "fsdp": 4, "tensor": 2}, 1),
    ],
)
def test_one_axis_crosses_slices_and_the_others_stay_inside(sizes, crossing):
    devices = make_mesh(sizes, chips(2)).devices
    assert len(set(devices.flat)) == 16
    slices = np.vectorize(lambda chip: chip.slice_index)(devices)
    for axis in range(4):
        inside = (slices == np.take(slices, [0], axis)).all()
        assert inside == (axis != crossing), axis


def test_no_axis_that_could_cross():
    with pytest.raises(UserError, match=r"3 slices, so replica \(1\) or data \(1\).*replica=3"):
        make_mesh({"replica": 1, "data": 1, "fsdp": 24}, chips(3))
