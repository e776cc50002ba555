"""Lay a file's tensors beside our tree: build every leaf that can be, note all that differs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from einops import EinopsError

from maskjax.interop.differences import Differences
from maskjax.interop.paths import flatten, matches
from maskjax.interop.resample import Resampling, resampled
from maskjax.interop.rules import Constant, Layout, Rule
from maskjax.interop.tables import check_table

Arrays = Mapping[str, np.ndarray]
Layer = tuple[np.ndarray, ...]


@dataclass
class Match:
    """The leaves that a file gives, and how the file and the tree differ.

    Attributes:
        leaves: Our path -> numpy array, for every leaf that could be built.
        differences: What does not fit; empty (false) when file and tree agree.
        kept: Paths of ours (with the key, for one layer of a stack) that were allowed to be missing
            and keep the value of ``like``.
        ignored: Keys of the file that were allowed to be left over.
        casts: (dtype in the file, dtype in the model) -> number of tensors.
        notes: Sentences for the report.
        resampling: How tables of another grid are resampled; None = they do not fit.
    """

    leaves: dict[str, np.ndarray] = field(default_factory=dict)
    differences: Differences = field(default_factory=Differences)
    kept: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    casts: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    resampling: Resampling | None = None


def match_arrays(
    arrays: Arrays,
    rules: Layout,
    like: Mapping[str, Any],
    *,
    allow_unused: Iterable[str] = (),
    allow_missing: Iterable[str] = (),
    resampling: Resampling | None = None,
) -> Match:
    """Compare and convert, raising nothing for what differs.

    Args:
        arrays: Tensors by torch key.
        rules: The layout.
        like: Nested dict of arrays or ``jax.ShapeDtypeStruct``.
        allow_unused: Patterns of torch keys that may be left over.
        allow_missing: Patterns of torch keys or of our paths that may be missing.
        resampling: How tables of another grid are resampled; None = they do not fit.
    """
    match, wanted, allowed = Match(resampling=resampling), flatten(like), tuple(allow_missing)
    used: set[str] = set()
    covered: set[str] = set()
    for rule in rules:
        if isinstance(rule, Constant):
            used.add(rule.theirs)
            _check_constant(match, rule, arrays)
        elif all(path in wanted for path in rule.paths):
            covered.update(rule.paths)
            used.update(_fill(match, rule, arrays, wanted, allowed))
    for path in (path for path in wanted if path not in covered):
        _keep_unfilled(match, path, wanted[path], allowed)
    for key in (key for key in arrays if key not in used):
        spare = matches(key, tuple(allow_unused))
        (match.ignored if spare else match.differences.unused).append(key)
    return match


def _check_constant(match: Match, rule: Constant, arrays: Arrays) -> None:
    if rule.theirs not in arrays:
        return  # a fixed table may be left out of a file: it is regenerated either way
    fits, sentence = check_table(rule, arrays[rule.theirs])
    if sentence:
        (match.notes if fits else match.differences.wrong).append(sentence)


def _fill(
    match: Match, rule: Rule, arrays: Arrays, like: Mapping[str, Any], allowed: tuple[str, ...]
) -> list[str]:
    """Build the leaves of one rule, if all its layers fit; return the keys the rule looked for."""
    depth = like[rule.paths[0]].shape[0] if rule.stacked else 1
    layers: list[Layer | None] = []
    for i in range(depth):
        if rule.key(i) in arrays:
            layers.append(_layer(match, rule, rule.key(i), arrays[rule.key(i)], like))
        else:
            layers.append(_missing_layer(match, rule, i, like, allowed))
    if all(layer is not None for layer in layers):
        for path, column in zip(rule.paths, zip(*layers, strict=True), strict=True):
            leaf = np.stack(column) if rule.stacked else np.array(column[0])
            match.leaves[path] = np.asarray(leaf, like[path].dtype, order="C")
    return [rule.key(i) for i in range(depth)]


def _layer(
    match: Match, rule: Rule, key: str, array: np.ndarray, like: Mapping[str, Any]
) -> Layer | None:
    shapes = [tuple(like[path].shape[1 if rule.stacked else 0 :]) for path in rule.paths]
    try:
        needed = rule.transform.torch_shape(*shapes)
    except (EinopsError, ValueError):
        wanted = ", ".join(f"{path} {s}" for path, s in zip(rule.paths, shapes, strict=True))
        match.differences.wrong.append(
            f"{key}: the model's {wanted} is no {rule.transform.name} of this geometry"
        )
        return None
    if array.shape != needed and not (array := _resampled(match, rule, key, array, needed)).size:
        return None
    _note_dtype(match, key, array.dtype, np.dtype(like[rule.paths[0]].dtype))
    return rule.transform.from_torch(array, *shapes)


def _resampled(
    match: Match, rule: Rule, key: str, array: np.ndarray, needed: tuple[int, ...]
) -> np.ndarray:
    """The table for the grid of the model, or an empty array where that cannot be."""
    if match.resampling and rule.resize:
        table, sentence = resampled(rule.resize, array, match.resampling)
        if table is not None and table.shape == needed:
            note = f"{rule.theirs} {sentence}"
            match.notes += [] if note in match.notes else [note]
            return table
    match.differences.reshaped[key] = (tuple(array.shape), needed)
    return np.zeros(0)


def _note_dtype(match: Match, key: str, found: np.dtype, needed: np.dtype) -> None:
    """Floats are cast to the model's float type and reported; anything else must be equal."""
    if found == needed:
        return
    if is_float(found) and is_float(needed):
        match.casts[found.name, needed.name] += 1
    else:
        match.differences.wrong.append(f"{key} holds {found} in the file, {needed} in the model")


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype is a float, those of ml_dtypes (bfloat16, float8) included."""
    return dtype.kind == "f" or "float" in dtype.name


def _missing_layer(
    match: Match, rule: Rule, i: int, like: Mapping[str, Any], allowed: tuple[str, ...]
) -> Layer | None:
    """The values that ``like`` has, when this key is allowed to be missing."""
    key = rule.key(i)
    if not any(matches(name, allowed) for name in (key, *rule.paths)):
        match.differences.missing.append(key)
        return None
    values = [_value(match, path, like[path]) for path in rule.paths]
    if any(value is None for value in values):
        return None
    match.kept += [f"{path} ({key})" for path in rule.paths]
    return tuple(value[i] if rule.stacked else value for value in values)


def _keep_unfilled(match: Match, path: str, leaf: Any, allowed: tuple[str, ...]) -> None:
    """Deal with a leaf of ours for which the layout has no key at all."""
    if not matches(path, allowed):
        match.differences.unfilled.append(path)
        return
    value = _value(match, path, leaf)
    if value is not None:
        match.leaves[path] = value
        match.kept.append(path)


def _value(match: Match, path: str, leaf: Any) -> np.ndarray | None:
    if hasattr(leaf, "__array__"):
        return np.asarray(leaf)
    sentence = f"{path} may be missing, but only its shape is known: pass initialised parameters"
    if sentence not in match.differences.wrong:
        match.differences.wrong.append(sentence)
    return None
