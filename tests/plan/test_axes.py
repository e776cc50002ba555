"""Leaves that a mesh axis was meant to shard and does not."""

import jax
import jax.numpy as jnp

from maskjax.plan.axes import indivisible
from maskjax.train.sharding import abstract_mesh, param_shardings


def found(shapes, **mesh):
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    size = 1
    for value in mesh.values():
        size *= value
    where = param_shardings(tree, abstract_mesh(mesh, size))
    placed = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), tree, where
    )
    return [(one.path, one.axis, one.bytes) for one in indivisible(placed)]


def test_twelve_heads_do_not_go_over_eight():
    query = {"blocks/attn/query/kernel": (2, 768, 12, 64)}
    assert found(query, tensor=4) == []
    assert found(query, tensor=8) == [("blocks/attn/query/kernel", "tensor", 2 * 768 * 768 * 4)]
    assert found(query, fsdp=8) == []  # the channels take it


def test_leaves_without_a_rule_are_named_if_they_are_large():
    odd = {"patch/kernel": (7 * 31, 331), "table": (7, 3)}
    assert found(odd, fsdp=8) == [("patch/kernel", "fsdp", 7 * 31 * 331 * 4)]
    assert found(odd, data=8) == []


def test_small_leaves_are_whole_on_purpose():
    assert found({"norm/scale": (7,), "mlp/fc1/bias": (8,), "x/bias": (7,)}, fsdp=4, tensor=2) == []


def test_the_largest_comes_first():
    odd = {"a/kernel": (217, 331), "b/kernel": (217, 333)}
    assert [path for path, _, _ in found(odd, fsdp=8)] == ["b/kernel", "a/kernel"]
