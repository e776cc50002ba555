"""The mesh and the rules that shard parameters by path."""

import jax
import jax.numpy as jnp
import optax
import pytest
import tiny
from jax.sharding import AxisType, PartitionSpec

from maskjax.errors import UserError
from maskjax.method import build_method
from maskjax.train.ema import with_ema
from maskjax.train.sharding import (
    MESH_AXES,
    batch_sharding,
    batch_shards,
    make_mesh,
    param_shardings,
)
from maskjax.train.state import create_state
from maskjax.train.tree import path_name


def specs(tree, mesh, **options):
    """{path: partition spec as a tuple without trailing None}."""
    shardings = jax.tree_util.tree_leaves_with_path(param_shardings(tree, mesh, **options))
    found = {path_name(path): tuple(sharding.spec) for path, sharding in shardings}
    return {name: _trim(spec) for name, spec in found.items()}


def _trim(spec):
    while spec and spec[-1] is None:
        spec = spec[:-1]
    return spec


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 1, "fsdp": 4, "tensor": 2})


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({"data": -1}, (1, 8, 1, 1)),
        ({"data": 1, "fsdp": -1}, (1, 1, 8, 1)),
        ({"replica": 2, "data": -1, "fsdp": 2}, (2, 2, 2, 1)),
        ({"replica": 1, "data": 2, "fsdp": 2, "tensor": 2}, (1, 2, 2, 2)),
    ],
)
def test_mesh_axes_are_named_ordered_and_auto(sizes, shape):
    mesh = make_mesh(sizes)
    assert mesh.axis_names == MESH_AXES == ("replica", "data", "fsdp", "tensor")
    assert tuple(mesh.shape.values()) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert batch_shards(mesh) == 8 // shape[3]
    assert batch_sharding(mesh).spec == PartitionSpec(("replica", "data", "fsdp"))


def test_a_mesh_over_some_devices():
    for num in (1, 2):
        mesh = make_mesh({"data": -1}, jax.devices()[:num])
        assert mesh.size == num
        assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 3}, "data=3 .* does not make 8 devices"),
        ({"data": -1, "fsdp": 3}, "fsdp=3 .* does not make 8 devices"),
        ({"data": -1, "fsdp": -1}, "does not make 8 devices"),
        ({"data": 0}, "data=0"),
        ({}, "does not make 8 devices"),
        ({"data": 8, "model": 1}, r"unknown axis .*model.*; axes: replica, data, fsdp, tensor"),
    ],
)
def test_mesh_errors(sizes, message):
    with pytest.raises(UserError, match=rf"config\.mesh: .*{message}"):
        make_mesh(sizes)


BLOCK = {
    "attn/query/kernel": (leaf(3, 16, 8, 4), (None, None, ("tensor", "fsdp"))),
    "attn/key/bias": (leaf(3, 4, 4), (None, "tensor")),
    "attn/out/kernel": (leaf(3, 8, 4, 16), (None, ("tensor", "fsdp"))),
    "attn/out/bias": (leaf(3, 16), ()),
    "mlp/fc1/kernel": (leaf(3, 16, 64), (None, "fsdp", "tensor")),
    "mlp/fc1/bias": (leaf(3, 64), (None, "tensor")),
    "mlp/fc2/kernel": (leaf(3, 64, 16), (None, "tensor", "fsdp")),
    "mlp/fc2/bias": (leaf(3, 16), ()),
    "norm1/scale": (leaf(3, 16), ()),
}


@pytest.mark.parametrize("name", BLOCK)
@pytest.mark.parametrize("prefix", ["params/encoder/blocks", "opt_state/main/0/mu/decoder/blocks"])
def test_rules_match_the_end_of_the_path(name, prefix, mesh):
    shape, expected = BLOCK[name]
    assert specs({f"{prefix}/{name}": shape}, mesh) == {f"{prefix}/{name}": expected}
    # Without the depth axis, as in a stack of one's own.
    flat = leaf(*shape.shape[1:])
    assert specs({f"{prefix}/{name}": flat}, mesh)[f"{prefix}/{name}"] == expected[1:]


def test_attention_takes_the_first_rule_that_divides(mesh):
    for name, shape, expected in (
        ("query", (3, 16, 8, 4), (None, None, ("tensor", "fsdp"))),
        ("query", (3, 16, 6, 4), (None, None, "tensor", "fsdp")),
        ("query", (3, 16, 6, 6), (None, "fsdp", "tensor")),
        ("out", (3, 8, 4, 16), (None, ("tensor", "fsdp"))),
        ("out", (3, 6, 4, 16), (None, "tensor", "fsdp")),
        ("out", (3, 6, 6, 16), (None, "tensor", None, "fsdp")),
    ):
        tree = {f"blocks/attn/{name}/kernel": leaf(*shape)}
        assert list(specs(tree, mesh).values()) == [expected]


def test_an_axis_that_does_not_divide_stays_whole(mesh):
    tree = {"blocks/attn/query/kernel": leaf(3, 18, 6, 6), "blocks/mlp/fc1/kernel": leaf(3, 16, 63)}
    assert specs(tree, mesh) == {
        "blocks/attn/query/kernel": (None, None, "tensor"),
        "blocks/mlp/fc1/kernel": (None, "fsdp"),
    }


def test_leaves_without_a_rule_shard_their_largest_divisible_axis(mesh):
    tree = {
        "head/kernel": leaf(128, 1000),
        "codebook": leaf(4096, 18),
        "prime": leaf(211, 211),
        "small": leaf(16, 16),
        "blocks/gamma": leaf(4096, 8, 4),
        "step": leaf(),
    }
    assert specs(tree, mesh) == {
        "head/kernel": (None, "fsdp"),
        "codebook": ("fsdp",),
        "prime": (),
        "small": (),
        "blocks/gamma": (None, "fsdp"),  # never the depth axis
        "step": (),
    }
    assert specs({"small": leaf(16, 16)}, mesh, min_size=0) == {"small": ("fsdp",)}


def test_rules_of_ones_own_and_first_match_wins(mesh):
    rules = ((r"special/kernel$", (None, "tensor")), (r"kernel$", ("fsdp", None)))
    tree = {"special/kernel": leaf(8, 8), "other/kernel": leaf(8, 8)}
    assert specs(tree, mesh, rules=rules) == {
        "special/kernel": (None, "tensor"),
        "other/kernel": ("fsdp",),
    }


def test_a_statistic_with_fewer_axes_than_its_rule_is_replicated(mesh):
    assert specs({"nu/blocks/attn/query/kernel": leaf(3)}, mesh) == {
        "nu/blocks/attn/query/kernel": ()
    }


def test_moments_and_average_lie_where_their_parameters_lie(mesh):
    batch = tiny.batch(8)
    method = build_method("mim.mae", tiny.MODEL, batch)
    optimizers = {"main": with_ema(optax.adamw(1e-3), 0.9)}
    state = jax.eval_shape(lambda key: create_state(method, optimizers, key, batch), _key())
    found = specs(state, mesh, min_size=0)
    params = {n.removeprefix("params/"): s for n, s in found.items() if n.startswith("params/")}
    assert params["encoder/blocks/attn/query/kernel"] == (None, None, "tensor", "fsdp")
    assert params["encoder/patch_embed/kernel"] == (None, "fsdp")
    for part in ("mu", "nu", "ema"):
        copies = {n.split(f"/{part}/")[1]: s for n, s in found.items() if f"/{part}/" in n}
        assert copies == params


def _key():
    return jax.random.key(0)
