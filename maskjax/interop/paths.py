"""Nested dicts as flat ``{"a/b/c": leaf}`` dicts, without jax: a path is the keys joined by "/"."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested dict: ``{"a": {"b": x}}`` becomes ``{"a/b": x}``, in the order of the tree.

    Anything that is not a mapping is a leaf. Empty sub-trees vanish, since they hold no weights.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}/")
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`flatten`: ``{"a/b": x}`` becomes ``{"a": {"b": x}}``."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether ``name`` fits one of the shell patterns ("decoder/*", "head.?eight"), case kept."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def names_of(keys: Iterable[str]) -> frozenset[str]:
    """Key names with layer numbers replaced by "{i}"."""
    return frozenset(re.sub(r"\.\d+\.", ".{i}.", key) for key in keys)
