"""Masks over whole units of a transformer: attention heads and MLP neurons."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Tree = Any


class UnitRule(NamedTuple):
    """Which axis of a parameter counts units of a kind.

    Attributes:
        pattern: regular expression, searched in "encoder/blocks/attn/query/kernel".
        unit: name of the kind.
        axis: counted from the end (-1 is the last); axes that stack blocks stand in front.
    """

    pattern: str
    unit: str
    axis: int


# The blocks of maskjax.nn: kernels [D, heads, d], [heads, d, D], [D, F] and [F, D].
VIT_UNITS = (
    UnitRule(r"attn/(query|key|value)/(kernel|bias)$", "heads", -2),
    UnitRule(r"attn/out/kernel$", "heads", -3),
    UnitRule(r"mlp/fc1/(kernel|bias)$", "neurons", -1),
    UnitRule(r"mlp/fc2/kernel$", "neurons", -2),
)


def alive_units(
    params: Tree, units: Mapping[str, Array], rules: Sequence[UnitRule] = VIT_UNITS
) -> Tree:
    """The alive tree of `maskjax.masking.weights` for masks over units.

    A dead head contributes nothing to the output projection (its bias stays), a dead neuron nothing
    to fc2; this needs an activation that maps 0 to 0, as GELU does. So `weights.fold` gives what a
    model without these units computes (OPTIN, Khaki and Plataniotis 2024).

    Args:
        params: tree of arrays.
        units: by kind, bool[..., U], True = alive; leading axes are those that stack blocks, such
            as heads bool[L, H] and neurons bool[L, F].
        rules: where the units lie; a parameter with no rule, or whose kind is not in `units`,
            stays alive.

    Returns:
        tree of bool that broadcasts to the parameters.

    Raises:
        ValueError: if a mask does not fit its parameter, or a kind fits no parameter.
    """
    used = set()

    def one(path: str, leaf: Array) -> Array | np.bool_:
        rule = _rule_of(path, rules)
        if rule is None or rule.unit not in units:
            return np.True_
        used.add(rule.unit)
        return _expand(path, jnp.asarray(units[rule.unit], bool), leaf.shape, rule)

    alive = _map_paths(one, params)
    if set(units) - used:
        kinds = ", ".join(sorted(set(units) - used))
        raise ValueError(f"no parameter has units of the kind {kinds}; check the rules")
    return alive


def unit_norms(params: Tree, rules: Sequence[UnitRule] = VIT_UNITS, *, stacked: int = 1) -> dict:
    """How large each unit is: the L2 norm over all its parameters, a baseline for importance.

    Args:
        params: tree of real arrays, all of one stack (the encoder's blocks, say).
        rules: where the units lie.
        stacked: how many leading axes stack blocks.

    Returns:
        {kind: float32[*stack, U]}.
    """
    squares = {}

    def one(path: str, leaf: Array) -> None:
        rule = _rule_of(path, rules)
        if rule is not None:
            kept = (*range(stacked), leaf.ndim + rule.axis)
            rest = tuple(axis for axis in range(leaf.ndim) if axis not in kept)
            square = jnp.square(leaf.astype(jnp.float32)).sum(rest)
            squares[rule.unit] = squares.get(rule.unit, 0) + square

    _map_paths(one, params)
    return {unit: jnp.sqrt(square) for unit, square in squares.items()}


def _map_paths(fn: Any, params: Tree) -> Tree:
    keystr = jax.tree_util.keystr
    named = lambda path, leaf: fn(keystr(path, simple=True, separator="/"), leaf)  # noqa: E731
    return jax.tree_util.tree_map_with_path(named, params)


def _rule_of(path: str, rules: Sequence[UnitRule]) -> UnitRule | None:
    return next((rule for rule in rules if re.search(rule.pattern, path)), None)


def _expand(path: str, mask: Array, shape: tuple[int, ...], rule: UnitRule) -> Array:
    """Puts the units of a mask onto their axis of the parameter."""
    stack, place = mask.shape[:-1], len(shape) + rule.axis
    if shape[: len(stack)] != stack or place < len(stack) or shape[place] != mask.shape[-1]:
        found = f"{path} {shape}, whose axis {rule.axis} counts {rule.unit}"
        raise ValueError(f"a mask {mask.shape} over {rule.unit} does not fit {found}")
    between = (1,) * (place - len(stack))
    return mask.reshape(*stack, *between, -1, *(1,) * (len(shape) - place - 1))
