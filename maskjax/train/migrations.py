"""Old checkpoint formats, brought up to date while they are read.

A format is what `checkpoint.py` writes beside the arrays. Whoever changes it raises FORMAT_VERSION
and adds the function that turns the version before into the new one; a chain of them makes every
older checkpoint readable. Nothing on disk is changed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from maskjax.errors import UserError
from maskjax.train.leaves import Leaf

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Stored:
    """What a checkpoint says about itself, before any array is read.

    Attributes:
        meta: the `meta` item without the leaf table.
        data: the `data` item.
        leaves: {current path of the leaf: Leaf}.
    """

    meta: dict[str, Any]
    data: dict[str, Any]
    leaves: dict[str, Leaf]


Migration = Callable[[Stored], Stored]


def rename_leaves(stored: Stored, pattern: str, replacement: str) -> Stored:
    """Rename leaves by `re.sub` on their paths; the files keep the old paths.

    Raises:
        ValueError: if two leaves would get one name.
    """
    renamed = {re.sub(pattern, replacement, name): leaf for name, leaf in stored.leaves.items()}
    if len(renamed) != len(stored.leaves):
        raise ValueError(f"{pattern!r} -> {replacement!r} gives two leaves one name")
    return replace(stored, leaves=renamed)


def _position(stored: Stored) -> Stored:
    """Version 0 (before the first release) called the data position `next_index`."""
    return replace(stored, data={"position": stored.data["next_index"]})


# {version: the function from that version to the next}
MIGRATIONS: dict[int, Migration] = {0: _position}


def migrate(stored: Stored, where: str) -> Stored:
    """Bring what was stored in any known format into the current one.

    Args:
        stored: as read; a missing `format_version` means 0.
        where: directory of the checkpoint, for the message.

    Raises:
        UserError: if the format is newer than this version of maskjax.
    """
    version = stored.meta.get("format_version", 0)
    if version > FORMAT_VERSION:
        written = stored.meta.get("versions", {}).get("maskjax", "unknown")
        raise UserError(
            f"{where}: checkpoint format {version} is newer than {FORMAT_VERSION}, the newest this"
            f" maskjax reads; it was written by maskjax {written}: install that version or later"
        )
    for old in range(version, FORMAT_VERSION):
        stored = MIGRATIONS[old](stored)
    return replace(stored, meta={**stored.meta, "format_version": FORMAT_VERSION})
