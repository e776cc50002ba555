"""What a step should move, by hand."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from maskjax.plan.ideal import Traffic, gathered_shapes, ideal_traffic


def leaf(mesh, shape, *spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))


def mesh_of(**axes):
    types = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=types)


def test_data_parallel_reduces_every_gradient():
    mesh = mesh_of(replica=2, data=4, fsdp=1, tensor=1)
    params = {"kernel": leaf(mesh, (8, 16)), "bias": leaf(mesh, (16,))}
    assert ideal_traffic(params, mesh) == Traffic(0, 0, (128 + 16) * 4)
    assert ideal_traffic(params, mesh, gradient_bytes=2).total == (128 + 16) * 2


def test_fsdp_gathers_twice_scatters_once_and_reduces_shards_over_data():
    mesh = mesh_of(replica=1, data=2, fsdp=4, tensor=1)
    params = {"kernel": leaf(mesh, (8, 16), None, "fsdp"), "bias": leaf(mesh, (16,))}
    expected = Traffic(2 * 128 * 2, 128 * 4, 128 // 4 * 4 + 16 * 4)
    assert ideal_traffic(params, mesh) == expected
    assert gathered_shapes(params) == [(16,), (8, 16)]


def test_tensor_parallel_shards_are_never_put_together():
    mesh = mesh_of(replica=1, data=1, fsdp=2, tensor=4)
    params = {"query": leaf(mesh, (3, 8, 16, 4), None, None, ("tensor", "fsdp"))}
    whole = 3 * 8 * 16 * 4 // 4
    assert ideal_traffic(params, mesh) == Traffic(2 * whole * 2, whole * 4, 0)
    assert gathered_shapes(params) == [(3, 8, 4, 4)]


def test_one_device_moves_nothing():
    mesh = jax.make_mesh(
        (1, 1, 1, 1),
        ("replica", "data", "fsdp", "tensor"),
        axis_types=(AxisType.Auto,) * 4,
        devices=jax.devices()[:1],
    )
    assert ideal_traffic({"kernel": leaf(mesh, (8, 16), "fsdp")}, mesh).total == 0
