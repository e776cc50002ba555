"""The leaves of a state by name: how a checkpoint lists, compares and verifies them."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from maskjax.errors import UserError
from maskjax.train.tree import path_name

PyTree = Any


@dataclass(frozen=True)
class Leaf:
    """One array of the stored state.

    Attributes:
        stored: its path in the files, which may differ from its name after a migration.
        shape: global shape.
        dtype: name of the dtype.
        checksum: of its bits, see `checksums`; None = was not recorded.
    """

    stored: str
    shape: tuple[int, ...]
    dtype: str
    checksum: int | None = None

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def by_name(tree: PyTree, prefix: str = "") -> dict[str, Any]:
    """{prefix + path: leaf}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + path_name(path): leaf for path, leaf in leaves}


def like(tree: PyTree, arrays: dict[str, jax.Array], prefix: str = "") -> PyTree:
    """`tree` with its leaves taken from `arrays` by name; the inverse of `by_name`."""
    leaves = [arrays[name] for name in by_name(tree, prefix)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """{"a/b": leaf} as {"a": {"b": leaf}}."""
    root: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        node = root
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return root


def compare(
    stored: dict[str, Leaf], wanted: dict[str, Any], where: str, *, whole: bool = True
) -> None:
    """Refuse to read a state into another one; Orbax would cast dtypes without a word."""
    differences = []
    for name, leaf in wanted.items():
        want = Leaf(name, tuple(leaf.shape), str(leaf.dtype))
        have = stored.get(name)
        if have is None:
            differences.append(f"{name}: {want} wanted, not stored")
        elif (have.shape, have.dtype) != (want.shape, want.dtype):
            differences.append(f"{name}: {want} wanted, {have} stored")
    if whole:
        differences += [f"{n}: {stored[n]} stored, not wanted" for n in stored if n not in wanted]
    if differences:
        more = f"\n  ... and {len(differences) - 10} more" if len(differences) > 10 else ""
        raise UserError(
            f"{where}: the checkpoint does not fit this model and optimizer; resume with the config"
            " it was made with (config.json in the workdir) or use another workdir:\n  "
            + "\n  ".join(differences[:10])
            + more
        )


def checksums(arrays: dict[str, jax.Array]) -> dict[str, int]:
    """A 32-bit checksum of the bits of each array, the same on every mesh and process.

    Computed where the arrays are: the sum modulo 2**32 of the words, each times an odd number that
    depends on its place, so that changed, moved, swapped and missing words are noticed.
    """
    # Two programs with collectives must not be in flight at once on emulated devices.
    jax.block_until_ready(arrays)
    groups = defaultdict(list)  # one program works on one set of devices
    for name, array in arrays.items():
        groups[frozenset(array.devices())].append(name)
    found = {}
    for names in groups.values():
        sums = _checksums([arrays[name] for name in names])
        found.update(zip(names, map(int, sums), strict=True))
    return found


def _checksums(arrays: list[jax.Array]) -> np.ndarray:
    sharding = next((x.sharding for x in arrays if isinstance(x.sharding, NamedSharding)), None)
    # Replicated, so that every process can read all of it.
    out = NamedSharding(sharding.mesh, PartitionSpec()) if sharding else None
    return np.asarray(jax.jit(_stacked, out_shardings=out)(arrays))


def _stacked(arrays: list[jax.Array]) -> jax.Array:
    return jnp.stack([_checksum(array) for array in arrays])


def _checksum(x: jax.Array) -> jax.Array:
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    width = min(x.dtype.itemsize, 4)
    words = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * width}")).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        # Horner's scheme for the flat index: no reshape, so no communication when sharded.
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return jnp.sum(words * (place * np.uint32(2654435761) * 2 + 1), dtype=jnp.uint32)
