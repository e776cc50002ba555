"""Read weights of any known layout into our tree; refuse what does not fit, naming all of it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskjax.errors import UserError
from maskjax.interop import folders
from maskjax.interop.convert import from_torch, tree_of
from maskjax.interop.differences import Differences, group
from maskjax.interop.guess import choose, looks_like
from maskjax.interop.hf_config import geometry_of, layout_of
from maskjax.interop.layouts import AROUND, BUFFERS, FORMATS, LAYOUTS, TREES, rules_for
from maskjax.interop.match import Match, match_arrays
from maskjax.interop.native import NATIVE, match_native
from maskjax.interop.paths import flatten, matches, names_of
from maskjax.interop.resample import Resampling
from maskjax.interop.rules import Rule
from maskjax.interop.shapes import param_tree
from maskjax.nn.families import AnyGeometry, from_metadata
from maskjax.nn.geometry import Geometry

# Fields of the metadata that must agree, heads above all: shapes do not tell them. The kind of
# position table may differ (fine-tuning trains a table that began as the fixed one): the tables'
# own rules decide whether the file's fits.
BINDING = (
    *("patch_size", "channels", "dim", "depth", "heads", "mlp_hidden", "cls"),
    *("frames", "tubelet", "dist_token", "registers", "relative", "pre_norm", "qkv_bias"),
    *("layer_scale", "activation", "mlp"),
)
DECODER = ("decoder_dim", "decoder_depth", "decoder_heads", "decoder_mlp_hidden")


@dataclass(frozen=True)
class ImportReport:
    """What was read.

    Attributes:
        path: The file.
        layout: Name of the layout its keys have.
        geometry: Of the model that was filled; None where a file of our own names needs none.
        metadata: The file's metadata ({} when it has none).
        num_arrays: Tensors in the file.
        kept: What was missing and kept its initial value, because that was allowed.
        ignored: Keys of the file left over, because that was allowed.
        notes: Casts, fixed tables of other sizes, what could not be checked.
    """

    path: Path
    layout: str
    geometry: AnyGeometry | None
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
    geometry: AnyGeometry | None = None,
    format: str | None = None,
    *,
    allow_unused: Iterable[str] = (),
    allow_missing: Iterable[str] = (),
    encoder_only: bool = False,
) -> tuple[dict[str, Any], ImportReport]:
    """Read a weights file into a tree of maskjax.

    Tables of learned positions and relative biases of another grid are resampled, and the report
    says so; fixed tables are regenerated.

    Args:
        path: .safetensors, .npz, (with torch installed) .pth, .pt, .bin, or a folder with
            config.json and weights, in shards or not.
        like: Nested dict of arrays or ``jax.ShapeDtypeStruct`` to fill; default: the tree of the
            geometry, in float32.
        geometry: Of ``like``; default: what the file's metadata or the folder's config.json says.
        format: A name of ``FORMATS`` or of one layout; default: what the metadata says, else told
            by the key names.
        allow_unused: Patterns of the file's keys that may be left over ("head.*").
        allow_missing: Patterns of the file's keys or of our paths ("decoder/*") that may be missing
            and keep their value in ``like``.
        encoder_only: Also leave out what files of the layout hold beside an encoder: decoder,
            heads, text tower; and, for an encoder without final norm, blocks after its last one.

    Returns:
        (nested dict of numpy arrays, what was read).

    Raises:
        UserError: The file cannot be read; its layout is unknown; its geometry, keys, shapes or
            fixed tables differ from the model's.
    """
    found = folders.read(path)
    if found.metadata.get("layout") == NATIVE:
        return _native(path, found, like, geometry, tuple(allow_unused), tuple(allow_missing))
    theirs = from_metadata(found.metadata) or geometry_of(found.config, f"{path}/config")
    theirs = encoder_of(theirs, geometry) if encoder_only and theirs else theirs
    geometry = agreed(path, geometry, theirs)
    like = param_tree(geometry) if like is None else like
    layout = _layout(path, found, geometry, format)
    around = AROUND[layout] if encoder_only else ()
    spare = (*BUFFERS, *around, *(f"module.{pattern}" for pattern in around))
    deeper = _deeper(layout, geometry, found.arrays) if encoder_only else ()
    match = match_arrays(
        found.arrays,
        rules_for(layout, geometry, names_of(found.arrays)),
        like,
        allow_unused=(*spare, *deeper, *allow_unused),
        allow_missing=tuple(allow_missing),
        resampling=Resampling(theirs.grid if theirs else None, antialias=layout == "timm"),
    )
    if match.differences:
        hints = _hints(found.arrays, layout, match.differences)
        raise UserError(match.differences.message(f"{path} (layout {layout})", hints))
    report = ImportReport(
        path=Path(path),
        layout=layout,
        geometry=geometry,
        metadata=found.metadata,
        num_arrays=len(found.arrays),
        kept=tuple(match.kept),
        ignored=tuple(match.ignored),
        notes=_notes(match, geometry, theirs),
    )
    return tree_of(match, like), report


def _native(
    path: Any,
    found: folders.Weights,
    like: Mapping[str, Any] | None,
    geometry: AnyGeometry | None,
    unused: tuple[str, ...],
    missing: tuple[str, ...],
) -> tuple[dict[str, Any], ImportReport]:
    match = match_native(path, found.arrays, like, unused, missing)
    lists = tuple(match.kept), tuple(match.ignored), tuple(match.notes)
    facts = (geometry, found.metadata, len(found.arrays))
    return tree_of(match, like or {}), ImportReport(Path(path), NATIVE, *facts, *lists)


def import_tree(path: str | os.PathLike, like: Mapping[str, Any], format: str) -> dict[str, Any]:
    """Read a file of a layout that follows from our tree (`layouts.TREES`).

    Args:
        path: As of `import_weights`.
        like: Nested dict of arrays or ``jax.ShapeDtypeStruct`` to fill.
        format: The name of the layout.

    Raises:
        UserError: The file cannot be read, or its keys or shapes differ from the model's.
    """
    rules = TREES[format](flatten(like))
    return from_torch(folders.read(path).arrays, rules, like, source=f"{path} (layout {format})")


def encoder_of(theirs: AnyGeometry, wanted: AnyGeometry | None) -> AnyGeometry:
    """The encoder of a file, cut short where the model is: its end is then not wanted."""
    theirs = theirs.encoder_only()
    if not isinstance(wanted, Geometry) or not isinstance(theirs, Geometry):
        return theirs
    if wanted.final_norm or wanted.depth >= theirs.depth:
        return theirs
    return replace(theirs, depth=wanted.depth)


def _deeper(layout: str, geometry: AnyGeometry, arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the file's blocks after the model's last one, and of its final norm."""
    if not isinstance(geometry, Geometry) or geometry.final_norm or geometry.pool == "gap":
        return ()
    whole = replace(geometry, final_norm=True, depth=1000)  # deeper than any
    rules = rules_for(layout, whole, names_of(arrays))
    params = [rule for rule in rules if isinstance(rule, Rule)]
    keys = {rule.key(i) for rule in params for i in range(geometry.depth, whole.depth)}
    return tuple(key for key in arrays if key in keys)


def agreed(path: Any, wanted: AnyGeometry | None, found: AnyGeometry | None) -> AnyGeometry:
    """The geometry of the model, of what is at `path`, or of both.

    Raises:
        UserError: Neither is known, or they differ where both must be the same.
    """
    if wanted is None and found is None:
        raise UserError(f"{path} says nothing of its geometry; give the geometry of the model.")
    if wanted is None or found is None:
        return wanted or found
    if type(found) is not type(wanted):
        kinds = " and ".join(g.FAMILY or "vit" for g in (found, wanted))
        raise UserError(f"{path} and the model are networks of different families: {kinds}.")
    lines = found.differences(wanted, _binding(wanted, found))
    if lines:
        advice = "Build the model with the file's values, or take another file."
        listed = [f"  {line}" for line in lines]
        head = f"{path} has another geometry than the model (field: file, model):"
        raise UserError("\n".join([head, *listed, advice]))
    return wanted


def _binding(wanted: AnyGeometry, found: AnyGeometry) -> tuple[str, ...]:
    """Fields of both that must agree."""
    if not isinstance(wanted, Geometry):
        return wanted.binding()
    return BINDING + (DECODER if wanted.has_decoder and found.has_decoder else ())


def _layout(path: Any, found: folders.Weights, geometry: AnyGeometry, format: str | None) -> str:
    told = found.metadata.get("layout") or layout_of(found.config)
    if format is None and told in LAYOUTS:
        return told
    if format in LAYOUTS and format not in FORMATS:
        return format
    if format is not None and format not in FORMATS:
        names = ", ".join(dict.fromkeys([*FORMATS, *LAYOUTS]))
        raise UserError(f"unknown format {format!r}; choose one of {names}.")
    try:
        return choose(found.arrays, geometry, FORMATS[format] if format else LAYOUTS)
    except UserError as error:
        kind = looks_like(found.arrays)
        hint = f" It looks like layout {kind.label}." if kind else ""
        raise UserError(f"{path}: {error}{hint}") from None


def _hints(arrays: Mapping, layout: str, differences: Differences) -> list[str]:
    hints = []
    kind = looks_like(arrays)
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
    around = [key for key in differences.unused if matches(key, AROUND[layout])]
    if around and around == differences.unused:
        hints.append("They lie around the encoder: import_weights(encoder_only=True) leaves them.")
    return hints


def _notes(match: Match, geometry: Geometry, theirs: Geometry | None) -> tuple[str, ...]:
    notes = [
        f"{count} arrays cast from {found} to {needed}"
        for (found, needed), count in match.casts.items()
    ]
    if theirs is None and isinstance(geometry, Geometry):
        notes.append("the file says nothing of its geometry: the number of heads was not checked")
    elif theirs and theirs.eps != geometry.eps:
        notes.append(f"the norms of the file have eps={theirs.eps}, the model's {geometry.eps}")
    return (*notes, *match.notes)
