"""Checksums of leaves: every changed bit is seen, and the mesh does not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maskjax.train.leaves import checksums


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_checksums_see_single_bits_and_swaps_and_no_mesh(dtype):
    x = np.asarray(jax.random.randint(jax.random.key(0), (8, 6), 0, 2)).astype(jnp.dtype(dtype))
    swapped, changed_one = x.copy(), x.copy()
    i, j = (int(np.flatnonzero(x.ravel() == v)[0]) for v in (0, 1))
    swapped.flat[i], swapped.flat[j] = x.flat[j], x.flat[i]
    changed_one.flat[i] = x.flat[j]
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("fsdp")))
    values = {"x": x, "swapped": swapped, "changed": changed_one, "moved": np.roll(x, 1)}
    sums = checksums({"sharded": sharded} | {k: jnp.asarray(v) for k, v in values.items()})
    assert sums["sharded"] == sums["x"]
    assert len({sums[k] for k in values}) == len(values)
