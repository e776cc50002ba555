"""Weights of any method under our own names, as one plain file: no checkpoint library, no layout.

The file holds all parameters as they are ("encoder/blocks/attn/query/kernel"), in safetensors or
npz, so that any code that reads arrays can read it.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskjax import __version__
from maskjax.errors import UserError
from maskjax.interop import files
from maskjax.interop.match import Arrays, Match, match_arrays
from maskjax.interop.paths import flatten
from maskjax.interop.rules import Rule
from maskjax.interop.text import metadata_text

NATIVE = "native"


def export_native(
    params: Mapping[str, Any], metadata: Mapping[str, Any], out: str | os.PathLike
) -> str:
    """Writes all parameters under our names; returns what was written, for people.

    Raises:
        UserError: The suffix is neither .safetensors nor .npz, or the system refuses the path.
    """
    arrays = {path: np.asarray(leaf) for path, leaf in flatten(params).items()}
    header = {key: metadata_text(value) for key, value in metadata.items()}
    files.write(out, arrays, header | {"layout": NATIVE, "maskjax_version": __version__})
    num = sum(array.size for array in arrays.values())
    return f"{Path(out)}: {len(arrays)} arrays, {num:,} values, under the names of maskjax"


def match_native(
    path: str | os.PathLike,
    arrays: Arrays,
    like: Mapping[str, Any] | None,
    allow_unused: Iterable[str] = (),
    allow_missing: Iterable[str] = (),
) -> Match:
    """Lays such a file's arrays beside the tree ``like``.

    Raises:
        UserError: There is no tree, or a name or shape differs.
    """
    if like is None:
        raise UserError(f"{path} holds parameters under our own names; give the tree to fill.")
    rules = tuple(Rule(name, name) for name in flatten(like))
    allowed = {"allow_unused": allow_unused, "allow_missing": allow_missing}
    match = match_arrays(arrays, rules, like, **allowed)
    if match.differences:
        raise UserError(match.differences.message(f"{path} (layout {NATIVE})"))
    return match
