"""What one step has to move between devices, from the shardings of its parameters alone."""

import dataclasses
import math

import jax
from jax.sharding import Mesh

from maskjax.method import Tree
from maskjax.nn.sharding import BATCH_AXES


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes per device and step, each array counted as it is when whole in one device's memory.

    Attributes:
        all_gather: parameters in the compute type, once for the forward and once for the backward
            pass.
        reduce_scatter: gradients, where parameters are sharded over `fsdp`.
        all_reduce: gradients over the other batch axes: of the shard where there is one, else of
            the whole parameter.
    """

    all_gather: int
    reduce_scatter: int
    all_reduce: int

    @property
    def total(self) -> int:
        """All three."""
        return self.all_gather + self.reduce_scatter + self.all_reduce


def ideal_traffic(
    params: Tree, mesh: Mesh, *, compute_bytes: int = 2, gradient_bytes: int = 4
) -> Traffic:
    """The traffic of a step that moves parameters and gradients, and no activation.

    With a `tensor` axis activations have to move as well; they are not in here.

    Args:
        params: `jax.ShapeDtypeStruct`s with their shardings.
        mesh: that they are sharded over.
        compute_bytes: of a value of a gathered parameter; 2 for bfloat16.
        gradient_bytes: of a value of a gradient that is summed up; 4 for float32.
    """
    batch = {axis: mesh.shape[axis] for axis in BATCH_AXES if axis in mesh.shape}
    gather = scatter = reduce = 0
    for leaf in jax.tree.leaves(params):
        used = {name for axes in leaf.sharding.spec for name in _names(axes)}
        over_fsdp = batch.get("fsdp", 1) if "fsdp" in used else 1
        shard = math.prod(leaf.sharding.shard_shape(leaf.shape))
        whole = shard * over_fsdp
        rest = math.prod(size for axis, size in batch.items() if axis not in used)
        if over_fsdp > 1:
            gather += 2 * whole * compute_bytes
            scatter += whole * gradient_bytes
        if rest > 1:
            reduce += shard * gradient_bytes
    return Traffic(gather, scatter, reduce)


def _names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def gathered_shapes(params: Tree) -> list[tuple[int, ...]]:
    """Shape of each parameter on one device after it was gathered over `fsdp`."""
    found = []
    for leaf in jax.tree.leaves(params):
        mesh, spec = leaf.sharding.mesh, leaf.sharding.spec
        axes = [[n for n in _names(axes) if n != "fsdp"] for axes in spec]
        axes += [[]] * (leaf.ndim - len(axes))
        sizes = zip(leaf.shape, axes, strict=True)
        found.append(tuple(n // math.prod(mesh.shape[a] for a in names) for n, names in sizes))
    return found
