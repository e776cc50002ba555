"""Checks that several sources share, so that the same mistake gets the same message."""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from maskjax.errors import UserError


def require_split(source: str, split: str, splits: tuple[str, ...], hint: str = "") -> None:
    """Raises UserError unless ``split`` is one of ``splits``."""
    if split not in splits:
        raise UserError(
            f"source {source!r} has no split {split!r}; it has: {', '.join(splits)}{hint}"
        )


def require_no_argument(source: str, argument: str) -> None:
    """Raises UserError if a source that takes no argument was given one."""
    if argument:
        raise UserError(f"source {source!r} takes no argument, found {argument!r}")


def package_file(package: str, distribution: str, relative: str) -> Path:
    """The path of a data file inside an installed package, found without importing the package.

    Raises:
        UserError: the package is not installed, or its file is not where it used to be.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"this data comes with {distribution}: pip install {distribution}")
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    if not path.is_file():
        raise UserError(f"the installed {distribution} has no {path}; try another version of it")
    return path


_SAME = ("val", "validation", "valid")
SPLITS = ("train", "test", *_SAME)


def match_split(split: str, splits: Iterable[str]) -> str | None:
    """The one of ``splits`` that ``split`` means: itself, or another word for validation."""
    there = list(splits)
    if split in there:
        return split
    return next((name for name in there if split in _SAME and name in _SAME), None)


def split_names(names: Iterable[str], *, also: str = "train") -> tuple[str, ...]:
    """The usual splits, and ``also``, that are words in file names: "x-train-0.tar" -> "train"."""
    text = "\n".join(names).lower()
    return tuple(
        name
        for name in dict.fromkeys((*SPLITS, also))
        if name and re.search(rf"(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])", text)
    )


def require_package(module: str, what: str, install: str) -> None:
    """Raises UserError, with the command to install it, unless a module is there."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs another package: pip install {install}")
