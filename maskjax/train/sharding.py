"""Mesh, and which axis of which parameter lies on which mesh axis, by path."""

import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from maskjax.errors import UserError
from maskjax.method import Tree
from maskjax.nn.sharding import BATCH_AXES
from maskjax.train.tree import path_name

MESH_AXES = (*BATCH_AXES, "tensor")
Axis = str | tuple[str, ...] | None  # mesh axes of one array axis
Rules = Sequence[tuple[str, tuple[Axis, ...]]]

# The first match whose axes all divide wins. The axes are those of one layer; stacked leaves have a
# depth axis in front, which is never sharded: the loop over layers slices it.
#
# Attention kernels give whole heads to `fsdp` too: a TPU stores arrays in tiles of 8 x 128, so that
# a shard [D / fsdp, heads, 64] takes twice its size in memory and in every all-gather (a quarter of
# ViT-L's state). Where the heads do not divide, their channels do; that shard is not padded either,
# but its gradient is reduced whole (all-reduce) instead of by shards (reduce-scatter).
RULES: Rules = (
    (r"attn/(query|key|value)/kernel$", (None, ("tensor", "fsdp"), None)),
    (r"attn/(query|key|value)/kernel$", (None, "tensor", "fsdp")),
    (r"attn/(query|key|value)/kernel$", ("fsdp", "tensor", None)),
    (r"attn/(query|key|value)/bias$", ("tensor", None)),
    (r"attn/out/kernel$", (("tensor", "fsdp"), None, None)),
    (r"attn/out/kernel$", ("tensor", "fsdp", None)),
    (r"attn/out/kernel$", ("tensor", None, "fsdp")),
    (r"mlp/(fc1|gate)/kernel$", ("fsdp", "tensor")),
    (r"mlp/(fc1|gate)/bias$", ("tensor",)),
    (r"mlp/fc2/kernel$", ("tensor", "fsdp")),
    (r"(bias|scale|cls_token|mask_token)$", ()),
)


def make_mesh(sizes: dict[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh (replica, data, fsdp, tensor) over the devices; one size may be -1 = the rest.

    Several TPU slices are connected by the slow data-centre network: `replica`, or else `data`,
    goes over them, and every other axis stays inside a slice.

    Raises:
        UserError: if the sizes do not multiply to the number of devices, an axis is unknown, or
            neither `replica` nor `data` is a multiple of the number of slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = mesh_shape(sizes, len(devices))
    types = (AxisType.Auto,) * len(MESH_AXES)
    if len(devices) == 1:
        return Mesh(np.asarray(devices).reshape(shape), MESH_AXES, axis_types=types)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1 and devices[0].platform == "tpu":
        return Mesh(_over_slices(shape, devices, slices), MESH_AXES, axis_types=types)
    # Split: else fsdp=32 is refused on v4:4x4x4, whose sides make 4, 16 and 64 only.
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, MESH_AXES, axis_types=types)


def abstract_mesh(sizes: dict[str, int], num_devices: int) -> AbstractMesh:
    """The same mesh without devices, for shapes and shardings on hardware that is not there.

    Raises:
        UserError: as `make_mesh`.
    """
    shape = mesh_shape(sizes, num_devices)
    return AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def mesh_shape(sizes: dict[str, int], num_devices: int) -> tuple[int, ...]:
    """The sizes of `MESH_AXES`, -1 filled in.

    Raises:
        UserError: as `make_mesh`.
    """
    unknown = set(sizes) - set(MESH_AXES)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise UserError(f"config.mesh: unknown axis {names}; axes: {', '.join(MESH_AXES)}")
    shape = [sizes.get(axis, 1) for axis in MESH_AXES]
    known = math.prod(s for s in shape if s != -1)
    if shape.count(-1) == 1 and known > 0 and num_devices % known == 0:
        shape[shape.index(-1)] = num_devices // known
    if min(shape) < 1 or math.prod(shape) != num_devices:
        asked = " x ".join(f"{a}={s}" for a, s in zip(MESH_AXES, shape, strict=True))
        raise UserError(
            f"config.mesh: {asked} does not make {num_devices} devices; set one axis to -1"
        )
    return tuple(shape)


def _over_slices(shape: Sequence[int], devices: Sequence[jax.Device], slices: int) -> np.ndarray:
    """Devices [replica, data, fsdp, tensor], where only the first axis that can crosses slices."""
    crossing = next((axis for axis in (0, 1) if shape[axis] % slices == 0), None)
    if crossing is None:
        raise UserError(
            f"config.mesh: the devices are {slices} slices, so replica ({shape[0]}) or data"
            f" ({shape[1]}) must be a multiple of {slices}, such as --config.mesh.replica={slices}"
        )
    outer = [slices if axis == crossing else 1 for axis in range(len(shape))]
    inner = [size // over for size, over in zip(shape, outer, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(
        inner, outer, devices, allow_split_physical_axes=True
    )


def batch_shards(mesh: Mesh | AbstractMesh) -> int:
    """Over how many parts of the mesh the batch is spread."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis over (replica, data, fsdp)."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def param_shardings(
    abstract: Tree, mesh: Mesh, rules: Rules = RULES, *, min_size: int = 2**14
) -> Tree:
    """A NamedSharding per leaf, for parameters and for any tree that holds copies of them.

    Optimizer moments, EMA and teachers match by the end of their path. A leaf without a rule has
    `fsdp` on its largest divisible axis, unless it has fewer than `min_size` values. If no matching
    rule divides, the last one is taken and the axes that its mesh axes do not divide stay whole.

    Args:
        abstract: tree of arrays or `jax.ShapeDtypeStruct`s.
        mesh: of `make_mesh`.
        rules: ordered (path regex, mesh axes or None per array axis); the first match that divides
            wins.
        min_size: smaller leaves without a rule are replicated.
    """

    def one(path, leaf) -> NamedSharding:
        return NamedSharding(mesh, _spec(path_name(path), leaf.shape, mesh, rules, min_size))

    return jax.tree_util.tree_map_with_path(one, abstract)


def _spec(
    name: str, shape: tuple[int, ...], mesh: Mesh, rules: Rules, min_size: int
) -> PartitionSpec:
    matches = [axes for regex, axes in rules if re.search(regex, name)]
    if not matches:
        return _fallback(name, shape, mesh, min_size)
    for axes in matches:
        if len(axes) > len(shape):  # a scalar or factored statistic kept under a parameter's path
            return PartitionSpec()
        axes = (None,) * (len(shape) - len(axes)) + tuple(axes)
        kept = [_kept(axis, size, mesh) for axis, size in zip(axes, shape, strict=True)]
        if tuple(kept) == axes:
            break
    return PartitionSpec(*kept)


def _kept(axis: Axis, size: int, mesh: Mesh) -> Axis:
    """The mesh axes if they divide an array axis of this size, else None."""
    names = (axis,) if isinstance(axis, str) else axis or ()
    return axis if size % math.prod(mesh.shape[name] for name in names) == 0 else None


def _fallback(name: str, shape: tuple[int, ...], mesh: Mesh, min_size: int) -> PartitionSpec:
    shards = mesh.shape["fsdp"]
    first = 1 if re.search(r"(^|/)\w*blocks/", name) else 0
    candidates = [axis for axis in range(first, len(shape)) if shape[axis] % shards == 0]
    if not candidates or math.prod(shape) < min_size:
        return PartitionSpec()
    largest = max(candidates, key=lambda axis: shape[axis])
    return PartitionSpec(*("fsdp" if axis == largest else None for axis in range(len(shape))))
