"""Read weights of any known layout into our tree; refuse what does not fit, naming all of it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskjax.errors import UserError
from maskjax.interop import files
from maskjax.interop.convert import tree_of
from maskjax.interop.differences import Differences, group
from maskjax.interop.geometry import Geometry
from maskjax.interop.guess import choose, looks_like
from maskjax.interop.layouts import FORMATS, LAYOUTS
from maskjax.interop.match import Match, match_arrays
from maskjax.interop.shapes import param_tree

# Fields of the metadata that must agree, heads above all: shapes do not tell them. The kind of
# position table may differ (fine-tuning trains a table that began as the fixed one): the tables'
# own rules decide whether the file's fits.
BINDING = ("patch_size", "channels", "dim", "depth", "heads", "mlp_hidden", "cls")
DECODER = ("decoder_dim", "decoder_depth", "decoder_heads", "decoder_mlp_hidden")


@dataclass(frozen=True)
class ImportReport:
    """What was read.

    Attributes:
        path: The file.
        layout: Name of the layout its keys have.
        geometry: Of the model that was filled.
        metadata: The file's metadata ({} when it has none).
        num_arrays: Tensors in the file.
        kept: What was missing and kept its initial value, because that was allowed.
        ignored: Keys of the file left over, because that was allowed.
        notes: Casts, fixed tables of other sizes, what could not be checked.
    """

    path: Path
    layout: str
    geometry: Geometry
    metadata: Mapping[str, str]
    num_arrays: int
    kept: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.path}: {self.num_arrays} arrays, layout {self.layout}"
        kept = (f"  not in the file, kept as initialised: {name}" for name in group(self.kept))
        ignored = (f"  not used: {name}" for name in group(self.ignored))
        return "\n".join([head, *kept, *ignored, *(f"  note: {note}" for note in self.notes)])


def import_weights(
    path: str | os.PathLike,
    like: Mapping[str, Any] | None = None,
    geometry: Geometry | None = None,
    format: str | None = None,
    *,
    allow_unused: Iterable[str] = (),
    allow_missing: Iterable[str] = (),
) -> tuple[dict[str, Any], ImportReport]:
    """Read a weights file into a tree of maskjax.

    Args:
        path: .safetensors, .npz, or (with torch installed) .pth, .pt, .bin.
        like: Nested dict of arrays or ``jax.ShapeDtypeStruct`` to fill; default: the tree of the
            geometry, in float32.
        geometry: Of ``like``; default: what the file's metadata says.
        format: "mae", "timm", "hf" or the name of one layout; default: what the metadata says, else
            told by the key names.
        allow_unused: Patterns of the file's keys that may be left over ("head.*").
        allow_missing: Patterns of the file's keys or of our paths ("decoder/*") that may be missing
            and keep their value in ``like``.

    Returns:
        (nested dict of numpy arrays, what was read).

    Raises:
        UserError: The file cannot be read; its layout is unknown; its geometry, keys, shapes or
            fixed tables differ from the model's.
    """
    arrays, metadata = files.read(path)
    geometry = _geometry(path, geometry, Geometry.from_metadata(metadata))
    like = param_tree(geometry) if like is None else like
    layout = _layout(path, arrays, metadata, geometry, format)
    match = match_arrays(
        arrays,
        LAYOUTS[layout](geometry),
        like,
        allow_unused=tuple(allow_unused),
        allow_missing=tuple(allow_missing),
    )
    if match.differences:
        hints = _hints(arrays, geometry, layout, match.differences)
        raise UserError(match.differences.message(f"{path} (layout {layout})", hints))
    report = ImportReport(
        path=Path(path),
        layout=layout,
        geometry=geometry,
        metadata=metadata,
        num_arrays=len(arrays),
        kept=tuple(match.kept),
        ignored=tuple(match.ignored),
        notes=_notes(match, metadata),
    )
    return tree_of(match, like), report


def _geometry(path: Any, wanted: Geometry | None, found: Geometry | None) -> Geometry:
    if wanted is None and found is None:
        raise UserError(f"{path} says nothing of its geometry; give the geometry of the model.")
    if wanted is None or found is None:
        return wanted or found
    both = DECODER if wanted.has_decoder and found.has_decoder else ()
    lines = found.differences(wanted, BINDING + both)
    if lines:
        advice = "Build the model with the file's values, or take another file."
        listed = [f"  {line}" for line in lines]
        head = f"{path} has another geometry than the model (field: file, model):"
        raise UserError("\n".join([head, *listed, advice]))
    return wanted


def _layout(
    path: Any, arrays: Mapping, metadata: Mapping[str, str], geometry: Geometry, format: str | None
) -> str:
    if format is None and metadata.get("layout") in LAYOUTS:
        return metadata["layout"]
    if format in LAYOUTS and format not in FORMATS:
        return format
    if format is not None and format not in FORMATS:
        names = ", ".join(dict.fromkeys([*FORMATS, *LAYOUTS]))
        raise UserError(f"unknown format {format!r}; choose one of {names}.")
    try:
        return choose(arrays, geometry, FORMATS[format] if format else LAYOUTS)
    except UserError as error:
        kind = looks_like(arrays, geometry)
        hint = f" It looks like layout {kind.label}." if kind else ""
        raise UserError(f"{path}: {error}{hint}") from None


def _hints(arrays: Mapping, geometry: Geometry, layout: str, differences: Differences) -> list[str]:
    hints = []
    kind = looks_like(arrays, geometry)
    if kind and (differences.missing or differences.unfilled or differences.unused):
        hints.append(
            f"By its names the file looks like layout {kind.label}; it was read as {layout}."
        )
    if differences.missing or differences.unfilled:
        hints.append(
            "To start from a file that lacks a part, allow it: allow_missing=('decoder/*',) keeps "
            "the initial values there."
        )
    if differences.unused:
        hints.append("To leave keys out, name them: allow_unused=('head.*',).")
    return hints


def _notes(match: Match, metadata: Mapping[str, str]) -> tuple[str, ...]:
    casts = (
        f"{count} arrays cast from {found} to {needed}"
        for (found, needed), count in match.casts.items()
    )
    unchecked = (
        []
        if Geometry.from_metadata(metadata)
        else ["the file says nothing of its geometry, so the number of heads was not checked"]
    )
    return (*casts, *match.notes, *unchecked)
