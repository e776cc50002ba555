"""Saves do not leave Python objects behind; and the leak that is worked around is still there."""

import sys

import jax.numpy as jnp
import tensorstore
from orbax.checkpoint._src.serialization import tensorstore_utils

from maskjax.train.checkpoint import Checkpoints

SPEC = {"driver": "file", "path": "/tmp/"}


def blocks_left(to_json, calls=1000) -> int:
    """Python's blocks of memory that so many calls leave behind."""
    to_json()
    before = sys.getallocatedblocks()
    for _ in range(calls):
        to_json()
    return sys.getallocatedblocks() - before


def test_what_orbax_asks_for_leaves_nothing_behind(tmp_path):
    with Checkpoints(tmp_path, every=1) as checkpoints:
        seen = tensorstore_utils.ts
        assert seen.KvStore.Spec(SPEC).to_json() == tensorstore.KvStore.Spec(SPEC).to_json()
        assert blocks_left(lambda: seen.KvStore.Spec(SPEC).to_json()) < 100
        checkpoints.save(1, {"x": jnp.ones(4)}, 0, {}, {})
        checkpoints.wait()
        assert checkpoints.latest_step() == 1


def test_tensorstore_still_leaks():
    """When this fails, tensorstore_leak.py can go."""
    assert blocks_left(tensorstore.KvStore.Spec(SPEC).to_json) > 3000
