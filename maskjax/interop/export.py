"""Write a model's parameters to a file that PyTorch code reads, and say what that file lacks."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskjax import __version__
from maskjax.errors import UserError
from maskjax.interop import files
from maskjax.interop.convert import to_torch
from maskjax.interop.layouts import FORMATS, LAYOUTS
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.interop.snippets import snippet
from maskjax.nn.geometry import Geometry

# Settings that no PyTorch layout has a place for; the file's metadata keeps them.
SETTINGS = ("mask_ratio", "norm_pix", "mean", "std")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file.
        layout: Name of the layout of its keys.
        num_arrays, num_values: Tensors in the file and numbers in them, fixed tables included.
        dropped: What the model has and the file has not, a line each.
        notes: What to know before using the file, a line each.
        snippet: One or two lines of PyTorch that load it.
    """

    path: Path
    layout: str
    num_arrays: int
    num_values: int
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    snippet: str

    def __str__(self) -> str:
        sizes = f"{self.num_arrays} arrays, {self.num_values:,} values"
        head = f"{self.path}: {sizes}, layout {self.layout}"
        dropped = (f"  dropped: {line}" for line in self.dropped)
        notes = (f"  note: {line}" for line in self.notes)
        return "\n".join([head, *dropped, *notes, "Load it in PyTorch:", self.snippet])


def export_weights(
    params: Mapping[str, Any],
    geometry: Geometry,
    metadata: Mapping[str, Any],
    format: str,
    out: str | os.PathLike,
    what: str = "full",
) -> ExportReport:
    """Write parameters under the names of a PyTorch layout.

    Args:
        params: Nested dict of arrays (numpy or jax, addressable here), the names of maskjax.
        geometry: Of ``params``; it must describe them exactly.
        metadata: Settings to keep in the file: mean, std, mask_ratio, norm_pix, method ...; values
            that are not strings are written as JSON.
        format: "mae" (official names; a classifier gets those of fine-tuned files), "timm" or "hf".
        out: The file, .safetensors or .npz. It is replaced atomically.
        what: "full", or "encoder" to leave the decoder out. timm never holds a decoder.

    Raises:
        UserError: Unknown format, what or suffix; parameters that differ from the geometry; a model
            the format cannot hold.
    """
    layout = _layout(format, geometry)
    files.check_writable_kind(out)
    _check_params(params, geometry)
    written = geometry.encoder_only() if _encoder_only(what, layout) else geometry
    dropped = {p: leaf for p, leaf in flatten(params).items() if p not in param_shapes(written)}
    arrays = to_torch(params, LAYOUTS[layout](written), allow_dropped=dropped)
    header = {key: _text(value) for key, value in metadata.items()}
    header |= {**written.to_metadata(), "layout": layout, "format": "pt"}
    files.write(out, arrays, header | {"maskjax_version": __version__})
    return ExportReport(
        path=Path(out),
        layout=layout,
        num_arrays=len(arrays),
        num_values=sum(array.size for array in arrays.values()),
        dropped=_dropped(dropped, metadata),
        notes=_notes(layout, written),
        snippet=snippet(layout, written, str(out), metadata),
    )


def _layout(format: str, geometry: Geometry) -> str:
    if format not in FORMATS:
        raise UserError(f"unknown export format {format!r}; choose one of {', '.join(FORMATS)}.")
    return "classify" if format == "mae" and geometry.pool != "none" else format


def _encoder_only(what: str, layout: str) -> bool:
    if what not in ("full", "encoder"):
        raise UserError(f"what={what!r}: choose 'full' or 'encoder'.")
    return what == "encoder" or layout in ("timm", "classify")


def _check_params(params: Mapping[str, Any], geometry: Geometry) -> None:
    """Wrong heads or a wrong patch size would give a file that loads and computes nonsense."""
    needed = param_shapes(geometry)
    found = {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}
    lines = [f"  {path} is missing" for path in needed if path not in found]
    lines += [f"  {path} is not part of this geometry" for path in found if path not in needed]
    lines += [
        f"  {path} is {found[path]}, the geometry says {shape}"
        for path, shape in needed.items()
        if path in found and found[path] != shape
    ]
    if lines:
        raise UserError("\n".join(["the parameters do not fit the geometry:", *lines]))


def _dropped(dropped: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[str, ...]:
    parts: dict[str, list[Any]] = {}
    for path, leaf in dropped.items():
        parts.setdefault(path.split("/")[0], []).append(leaf)
    lines = [
        f"{name}/ ({len(leaves)} arrays, {sum(int(np.prod(a.shape)) for a in leaves):,} values)"
        for name, leaves in parts.items()
    ]
    kept = [key for key in SETTINGS if key in metadata]
    if kept:
        lines.append(f"{', '.join(kept)}: kept in the file's metadata, which PyTorch code ignores")
    return tuple(lines)


def _notes(layout: str, geometry: Geometry) -> tuple[str, ...]:
    notes = []
    rows, columns = geometry.grid
    official = layout == "mae" and geometry.has_decoder
    if rows != columns and (official or layout == "hf"):
        owner = "the official MAE code" if official else "transformers' ViTMAE"
        notes.append(
            f"{owner} builds square patch grids only, so it cannot take this model's "
            f"{rows}x{columns}; timm can take the encoder"
        )
    if official and not geometry.cls:
        notes.append("the official MAE code always has a cls token; this model has none")
    ratios = geometry.mlp_hidden * geometry.decoder_dim, geometry.decoder_mlp_hidden * geometry.dim
    if official and ratios[0] != ratios[1]:
        notes.append("the official MAE code has one mlp_ratio; this model's decoder has its own")
    if layout == "timm" and geometry.position == "sincos":
        notes.append("timm trains pos_embed; here it holds the fixed sin-cos table")
    return tuple(notes)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as Python's own."""
    return value.tolist()
