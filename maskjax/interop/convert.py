"""Trees of ours to torch tensors and back, by the rules of a layout; pure functions on arrays.

What does not fit is never dropped or filled in silently: it is refused with every difference named,
unless the caller allowed it by name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from einops import EinopsError

from maskjax.errors import UserError
from maskjax.interop.match import Arrays, Match, match_arrays
from maskjax.interop.paths import flatten, matches, unflatten
from maskjax.interop.rules import Constant, Layout, Rule


def to_torch(
    tree: Mapping[str, Any], rules: Layout, *, allow_dropped: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Turn a tree of arrays into the tensors of a torch state dict.

    Args:
        tree: Nested dict of numpy or jax arrays; any dtype, kept as it is. The arrays may hold
            anything of the same shapes (gradients, learning-rate multipliers), not only weights.
        rules: The layout.
        allow_dropped: Patterns of our paths ("decoder/*") that the layout need not hold.

    Returns:
        Contiguous numpy arrays by torch key, the fixed tables of the layout included.

    Raises:
        UserError: A leaf is in no rule, a rule's leaf is not in the tree, or a shape does not fit.
    """
    leaves = {path: np.asarray(leaf) for path, leaf in flatten(tree).items()}
    params = [rule for rule in rules if isinstance(rule, Rule)]
    taken = {path for rule in params for path in rule.paths}
    lost = [path for path in leaves if path not in taken and not matches(path, allow_dropped)]
    absent = [path for path in taken if path not in leaves]
    if lost or absent:
        lines = [f"  no key of the layout holds {path}" for path in lost]
        lines += [f"  the tree has no {path}" for path in sorted(absent)]
        advice = "Check the geometry, or name what may be dropped in allow_dropped."
        raise UserError("\n".join(["the tree does not fit the layout:", *lines, advice]))
    arrays = {rule.theirs: rule.table() for rule in rules if isinstance(rule, Constant)}
    for rule in params:
        arrays |= _export(rule, leaves)
    return {key: np.asarray(array, order="C") for key, array in arrays.items()}


def _export(rule: Rule, leaves: Arrays) -> dict[str, np.ndarray]:
    group = [leaves[path] for path in rule.paths]
    try:
        if not rule.stacked:
            return {rule.theirs: rule.transform.to_torch(*group)}
        layers = enumerate(zip(*group, strict=True))
        return {rule.key(i): rule.transform.to_torch(*layer) for i, layer in layers}
    except (EinopsError, ValueError) as error:
        shapes = ", ".join(f"{path} {leaves[path].shape}" for path in rule.paths)
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{shapes} cannot become {rule.theirs} ({rule.transform.name}): {reason} "
            "Check the geometry against the tree."
        ) from None


def from_torch(
    arrays: Arrays,
    rules: Layout,
    like: Mapping[str, Any],
    *,
    allow_unused: Iterable[str] = (),
    allow_missing: Iterable[str] = (),
    source: str = "the file",
) -> dict[str, Any]:
    """Build our tree from the tensors of a torch state dict; the inverse of :func:`to_torch`.

    Args:
        arrays: Tensors by torch key.
        rules: The layout.
        like: Nested dict of arrays or ``jax.ShapeDtypeStruct``: gives structure, shapes and dtypes.
        allow_unused: Patterns of torch keys that may be left over ("head.*").
        allow_missing: Patterns of torch keys or of our paths ("decoder/*") that may be missing;
            such leaves keep the value they have in ``like``.
        source: What to call the file in messages.

    Returns:
        Nested dict of numpy arrays of the dtypes of ``like``.

    Raises:
        UserError: Keys are missing, left over or of another shape, a fixed table differs from the
            regenerated one, or a leaf may be missing but ``like`` holds no value for it.
    """
    match = match_arrays(
        arrays, rules, like, allow_unused=allow_unused, allow_missing=allow_missing
    )
    if match.differences:
        raise UserError(match.differences.message(source))
    return tree_of(match, like)


def tree_of(match: Match, like: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a match without differences, in the order of ``like``."""
    return unflatten({path: match.leaves[path] for path in flatten(like)})
