"""Masks over parameter trees: which weights are alive (pruning, mask tuning).

`alive` is a tree of booleans like the parameters; a leaf may be any shape that broadcasts to its
parameter, so that parameters which are not masked cost one boolean. Trees of scores have None for
such parameters.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import varying_like

Tree = Any
# A regular expression that is searched in "encoder/blocks/mlp/fc1/kernel", or a function of it.
Select = str | Callable[[str], bool]


def magnitude(
    params: Tree,
    *,
    sparsity: float,
    select: Select = r"kernel$",
    scope: Literal["tree", "leaf"] = "tree",
) -> Tree:
    """Keeps the largest weights by absolute value, exactly round((1 - sparsity) * n) of n.

    Args:
        params: tree of real arrays.
        sparsity: share of the selected weights to switch off, in [0, 1].
        select: which parameters are masked; the others stay alive.
        scope: whether to rank all selected weights together, or each parameter by itself.

    Returns:
        alive: tree of bool, [*shape] where selected, else [].

    Raises:
        ValueError: if the sparsity is outside [0, 1], nothing is selected, or the scope unknown.
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is a share in [0, 1]; got {sparsity}")
    if scope not in ("tree", "leaf"):
        raise ValueError(f"scope must be 'tree' or 'leaf', got {scope!r}")
    scores = jax.tree.map(jnp.abs, selected(params, select))
    leaves, treedef = jax.tree.flatten(scores)
    groups = [leaves] if scope == "tree" else [[leaf] for leaf in leaves]
    kept = [highest(group, num_alive=_share(group, 1 - sparsity)) for group in groups]
    alive = jax.tree.unflatten(treedef, [leaf for group in kept for leaf in group])
    return alive_or_all(alive)


def highest(scores: Tree, *, num_alive: int) -> Tree:
    """Exactly `num_alive` entries of the whole tree, those with the highest scores.

    Ties go to the earlier leaf, then to the earlier entry. The threshold, and among ties the last
    place that is kept, are found bit by bit with 64 counts, so nothing is sorted and, on sharded
    trees, only counts travel between devices.

    Args:
        scores: tree of real arrays; ranked as float32.
        num_alive: static, in 0..n.

    Returns:
        tree of bool[*shape].

    Raises:
        ValueError: if `num_alive` is outside 0..n, or n exceeds 2**31 - 1.
    """
    leaves, treedef = jax.tree.flatten(scores)
    size = sum(leaf.size for leaf in leaves)
    if not 0 <= num_alive <= size or size >= 2**31:
        raise ValueError(f"num_alive {num_alive} of {size} entries: must fit, below 2**31")
    bits = [_sortable(leaf) for leaf in leaves]
    threshold = _largest(lambda t: _count([b >= t for b in bits]) >= num_alive)
    left = num_alive - _count([b > threshold for b in bits])
    places = _places([leaf.shape for leaf in leaves])
    tied = [(b == threshold, place) for b, place in zip(bits, places, strict=True)]
    bound = _largest(lambda end: _count([tie & (place < end) for tie, place in tied]) <= left)
    alive = [
        (b > threshold) | (tie & (place < bound))
        for b, (tie, place) in zip(bits, tied, strict=True)
    ]
    return jax.tree.unflatten(treedef, alive)


def n_of_m(weight: Array, n: int, m: int, *, axis: int = 0) -> Array:
    """N:M sparsity: of every m weights in a row along `axis`, the n largest by absolute value.

    Hardware wants the groups along the input axis of the product (2:4: n=2, m=4).

    Args:
        weight: real[...].
        n: in 0..m.
        m: divides the axis.
        axis: where the groups lie; ties go to the earlier weight.

    Returns:
        alive bool[...] of the same shape.

    Raises:
        ValueError: if n is outside 0..m or m does not divide the axis.
    """
    length = weight.shape[axis]
    if not 0 <= n <= m or m < 1 or length % m:
        raise ValueError(f"{n}:{m} sparsity along an axis of {length}: need 0 <= n <= m, m | axis")
    last = jnp.moveaxis(weight, axis, -1)
    groups = jnp.abs(last).reshape(*last.shape[:-1], length // m, m)
    rank = jnp.argsort(jnp.argsort(-groups, -1), -1)
    return jnp.moveaxis((rank < n).reshape(last.shape), -1, axis)


def straight_through(scores: Array, threshold: float) -> Array:
    """1 where score > threshold (strictly), else 0; the gradient passes as if it were the score."""
    hard = (scores > threshold).astype(scores.dtype)
    return hard + (scores - jax.lax.stop_gradient(scores))


def gate(params: Tree, scores: Tree, *, threshold: float) -> Tree:
    """Weights times their straight-through masks (R-AMT, Zheng et al. 2023; Piggyback before it).

    The gradient of a score is weight * gradient of the masked weight, also where the mask is 0, so
    that a weight can come back.

    Args:
        params: tree of real arrays.
        scores: the same tree, None for parameters without a mask (`selected`).
        threshold: scores above it keep their weight. R-AMT: 5e-3, with scores that start at 1e-2.
    """

    def one(score: Array | None, param: Array) -> Array:
        return param if score is None else param * straight_through(score, threshold)

    return jax.tree.map(one, scores, params, is_leaf=_is_none)


def above(scores: Tree, threshold: float) -> Tree:
    """alive: score > threshold (strictly); True where there is no score. See `gate`."""
    return alive_or_all(jax.tree.map(lambda score: score > threshold, scores))


def selected(params: Tree, select: Select, *, value: float | None = None) -> Tree:
    """The selected parameters, None for the others; or with `value`, arrays full of it (scores).

    Raises:
        ValueError: if nothing is selected.
    """
    matches = select if callable(select) else lambda path: re.search(select, path) is not None

    def one(path: Any, leaf: Array) -> Array | None:
        if not matches(jax.tree_util.keystr(path, simple=True, separator="/")):
            return None
        return leaf if value is None else jnp.full(leaf.shape, value, jnp.float32)

    found = jax.tree_util.tree_map_with_path(one, params)
    if not jax.tree.leaves(found):
        raise ValueError(f"no parameter is selected by {select!r}; it sees paths joined by '/'")
    return found


def fold(params: Tree, alive: Tree) -> Tree:
    """The parameters with 0 where they are not alive; the plain model then is the masked one."""
    return jax.tree.map(lambda a, p: jnp.where(a, p, jnp.zeros((), p.dtype)), alive, params)


def share_dead(params: Tree, alive: Tree) -> Array:
    """float32[]: the share of all parameters that is switched off."""
    dead = jax.tree.map(lambda a, p: jnp.sum(jnp.broadcast_to(~a, p.shape)), alive, params)
    return sum(jax.tree.leaves(dead)) / sum(leaf.size for leaf in jax.tree.leaves(params))


def to_bytes(alive: Array) -> Array:
    """uint8[ceil(n / 8)]: one bit a weight, row-major, the first in the highest bit (R-AMT)."""
    return jnp.packbits(alive.ravel())


def from_bytes(packed: Array, shape: tuple[int, ...]) -> Array:
    """bool[*shape] from `to_bytes`."""
    return jnp.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool)


def alive_or_all(alive: Tree) -> Tree:
    """Fills a tree that has None for what is not masked with True."""
    return jax.tree.map(lambda a: np.True_ if a is None else a, alive, is_leaf=_is_none)


def _is_none(value: Any) -> bool:
    return value is None


def _share(leaves: list[Array], share: float) -> int:
    return round(share * sum(leaf.size for leaf in leaves))


def _largest(holds: Callable[[Array], Array]) -> Array:
    """The largest uint32 for which a condition holds that is true up to it and false beyond."""

    def raise_bit(i: Array, value: Array) -> Array:
        higher = value | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(holds(higher), higher, value)

    start = varying_like(jnp.uint32(0), holds(jnp.uint32(0)))
    return jax.lax.fori_loop(0, 32, raise_bit, start)


def _places(shapes: list[tuple[int, ...]]) -> list[Array]:
    """uint32[*shape] for each leaf: the number of each entry, counted through all leaves."""
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    places = []
    for shape, start in zip(shapes, starts, strict=False):
        place = jnp.full(shape, start, jnp.uint32)
        for axis in range(len(shape)):
            stride = math.prod(shape[axis + 1 :])
            place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
        places.append(place)
    return places


def _count(conditions: list[Array]) -> Array:
    return sum(condition.sum(dtype=jnp.int32) for condition in conditions)


def _sortable(x: Array) -> Array:
    """uint32 in the order of the float32 values: flips all bits of negatives, else the sign."""
    x = jnp.where(x == 0, 0, x.astype(jnp.float32))  # -0 has other bits than 0
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))
