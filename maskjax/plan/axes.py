"""Mesh axes that should shard a parameter, by the rules, and divide none of its axes."""

import dataclasses
import math
import re

import jax

from maskjax.method import Tree
from maskjax.train.sharding import RULES, Axis, Rules
from maskjax.train.tree import path_name


@dataclasses.dataclass(frozen=True)
class Indivisible:
    """A leaf that is whole along a mesh axis.

    Attributes:
        path: of the leaf.
        shape: of the whole leaf.
        axis: of the mesh.
        size: of that axis.
        bytes: of one device's part of the leaf.
    """

    path: str
    shape: tuple[int, ...]
    axis: str
    size: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.axis}={self.size} divides no axis of {self.path} {list(self.shape)}"


def indivisible(params: Tree, rules: Rules = RULES, *, min_size: int = 2**14) -> list[Indivisible]:
    """Every (leaf, mesh axis) that a rule wanted and no array axis could take, largest first.

    Args:
        params: `jax.ShapeDtypeStruct`s with their shardings.
        rules: that made the shardings.
        min_size: smaller leaves are whole on purpose where no rule is for them.
    """
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, mesh = path_name(path), leaf.sharding.mesh
        used = {axis for axes in leaf.sharding.spec for axis in mesh_axes(axes)}
        shard = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        found += [
            Indivisible(name, leaf.shape, axis, mesh.shape[axis], shard)
            for axis in sorted(_wanted(name, leaf, rules, min_size) - used)
            if mesh.shape[axis] > 1
        ]
    return sorted(found, key=lambda one: -one.bytes)


def mesh_axes(axis: Axis) -> tuple[str, ...]:
    """The mesh axes of one entry of a PartitionSpec."""
    return (axis,) if isinstance(axis, str) else axis or ()


def _wanted(name: str, leaf: jax.ShapeDtypeStruct, rules: Rules, min_size: int) -> set[str]:
    matches = [axes for regex, axes in rules if re.search(regex, name) and len(axes) <= leaf.ndim]
    if matches:
        return {axis for axes in matches for entry in axes for axis in mesh_axes(entry)}
    return {"fsdp"} if math.prod(leaf.shape) >= min_size else set()
