"""Which lean parts are on while a function is traced, and whether it is part of an unrolled stack.

A scope is entered around the tracing of a model by whoever owns the switch (`build_method`,
`Stack`), so that modules and methods need not pass it on. What was traced keeps its choice.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
from jax import Array

# "chain" is what `chain` does, the others are the layers.
PARTS = frozenset({"dense", "norm", "mlp", "attention", "chain"})

_parts: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("parts", default=PARTS)
_unrolled: contextvars.ContextVar[bool] = contextvars.ContextVar("unrolled", default=False)


@contextlib.contextmanager
def only(parts: Collection[str]) -> Iterator[None]:
    """Within it only these of `PARTS` are lean, the others are left to autodiff.

    Raises:
        ValueError: for a name that is not in `PARTS`.
    """
    if unknown := set(parts) - PARTS:
        raise ValueError(f"no lean part {sorted(unknown)}; there are {sorted(PARTS)}")
    token = _parts.set(frozenset(parts))
    try:
        yield
    finally:
        _parts.reset(token)


def plain(fn: Callable) -> Callable:
    """`fn` traced with every lean part off."""

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        with only(()):
            return fn(*args, **kwargs)

    return wrapped


@contextlib.contextmanager
def unrolled(yes: bool) -> Iterator[None]:
    """Around the layers of a stack: whether they are unrolled, see `chain`."""
    token = _unrolled.set(yes)
    try:
        yield
    finally:
        _unrolled.reset(token)


def is_on(part: str) -> bool:
    """Whether this part is lean here."""
    return part in _parts.get()


def alike(*tree: Any) -> Any:
    """`tree` with all its arrays varying over the same axes of a `shard_map` around it.

    A custom backward pass must answer with what varies as its arguments do; made alike before, the
    sum over the shards that a replicated parameter's gradient needs is left to autodiff.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    axes = frozenset().union(*map(_axes, jax.tree.leaves(tree)))

    def one(leaf: Array) -> Array:
        missing = tuple(sorted(axes - _axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree)


def _axes(x: Array) -> frozenset[str]:
    return jax.typeof(x).manual_axis_type.varying


def in_unrolled() -> bool:
    """Whether layers are being unrolled here, and `chain` is wanted."""
    return _unrolled.get() and is_on("chain")
