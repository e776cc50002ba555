"""Write a model's parameters to a file that PyTorch code reads, and say what that file lacks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskjax import __version__
from maskjax.errors import UserError
from maskjax.interop import files, folders, hub_config
from maskjax.interop.convert import to_torch
from maskjax.interop.hf_config import geometry_of
from maskjax.interop.layouts import FORMATS, require_family, rules_of
from maskjax.interop.paths import flatten
from maskjax.interop.shapes import param_shapes
from maskjax.interop.snippets import snippet
from maskjax.interop.text import metadata_text
from maskjax.nn.families import AnyGeometry
from maskjax.nn.geometry import SINCOS, Geometry

# Parts of a tree that a geometry describes.
PARTS = ("encoder", "decoder", "fc_norm", "head", "projection")
WITH_DECODER = ("mae", "hf", "swin", "hf_swin")
# Small parts that some layouts have no key for, and that are left out there.
DROPPED = {"mask_token": False, "projection": 0}
DROPS = {
    "timm": ("mask_token", "projection"),
    "hf_vit": ("mask_token", "projection"),
    "hf_dinov2": ("projection",),
    "hf_videomae": ("mask_token",),
    "timm_swin": ("mask_token",),
    "hf_swin": ("mask_token",),
    "clip": ("mask_token",),
    "hf_clip": ("mask_token",),
}

# Settings that no PyTorch layout has a place for; the file's metadata keeps them.
SETTINGS = ("mask_ratio", "norm_pix", "mean", "std")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file or folder.
        layout: Name of the layout of its keys.
        geometry: Of what is in the file.
        num_arrays, num_values: Tensors in the file and numbers in them, fixed tables included.
        dropped: What the model has and the file has not, a line each.
        notes: What to know before using the file, a line each.
        snippet: One or two lines of PyTorch that load it.
    """

    path: Path
    layout: str
    geometry: AnyGeometry
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
    geometry: AnyGeometry,
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
        format: A name of ``FORMATS``: "mae" (official names; a classifier gets those of fine-tuned
            files), "timm", "hf", "hf_vit" ...
        out: A file, .safetensors or .npz, replaced atomically; or a folder (a name without suffix)
            that gets config.json beside the weights, as transformers and timm read it.
        what: "full", or "encoder" to leave the decoder out. "mae", "hf" and SimMIM's formats hold
            one.

    Raises:
        UserError: Unknown format, what or suffix; parameters that differ from the geometry; a model
            the format cannot hold.
    """
    layout = layout_to_write(format, geometry)
    written = written_geometry(layout, geometry, what)
    folder = folders.is_folder_name(out)
    path = Path(out) / folders.WEIGHTS if folder else Path(out)
    files.check_writable_kind(path)
    beside = _beside(layout, written, metadata) if folder else {}
    _check_params(params, geometry)
    dropped = {p: leaf for p, leaf in flatten(params).items() if p not in param_shapes(written)}
    arrays = to_torch(params, rules_of(layout, written), allow_dropped=dropped)
    header = {key: metadata_text(value) for key, value in metadata.items()}
    header |= {**written.to_metadata(), "layout": layout, "format": "pt"}
    files.write(path, arrays, header | {"maskjax_version": __version__})
    for name, content in beside.items():
        folders.write_json(path.parent / name, content)
    return ExportReport(
        path=Path(out),
        layout=layout,
        geometry=written,
        num_arrays=len(arrays),
        num_values=sum(array.size for array in arrays.values()),
        dropped=_dropped(dropped, metadata),
        notes=_notes(layout, written),
        snippet=snippet(layout, written, str(out), metadata),
    )


def layout_to_write(format: str, geometry: AnyGeometry) -> str:
    """The layout that an export in a format gets.

    Raises:
        UserError: There is no such format, or it cannot hold this model.
    """
    if format not in FORMATS:
        raise UserError(f"unknown export format {format!r}; choose one of {', '.join(FORMATS)}.")
    pooled = isinstance(geometry, Geometry) and geometry.pool != "none"
    layout = "classify" if format == "mae" and pooled else FORMATS[format][0]
    require_family(layout, geometry)
    return layout


def written_geometry(layout: str, geometry: AnyGeometry, what: str = "full") -> AnyGeometry:
    """What is left of a model in a layout: parts that it has no keys for are dropped.

    Raises:
        UserError: ``what`` is neither "full" nor "encoder".
    """
    if what not in ("full", "encoder"):
        raise UserError(f"what={what!r}: choose 'full' or 'encoder'.")
    kept = geometry if what == "full" and layout in WITH_DECODER else geometry.encoder_only()
    if what == "full" and layout == "pretraining":
        kept = replace(kept, pixel_head=geometry.pixel_head)
    lost = DROPS.get(layout, ())
    if getattr(kept, "pixel_head", False):  # a head to pixels keeps its mask token
        lost = tuple(name for name in lost if name != "mask_token")
    return replace(kept, **{name: value for name, value in DROPPED.items() if name in lost})


def _beside(layout: str, geometry: AnyGeometry, settings: Mapping[str, Any]) -> dict[str, dict]:
    """Files of a folder, beside the weights."""
    if layout in hub_config.OF_TIMM:
        return {folders.CONFIG: hub_config.timm_config(geometry, settings)}
    config = hub_config.transformers_config(layout, geometry, settings)
    _check_config(layout, geometry, config)
    return {
        folders.CONFIG: config,
        folders.PROCESSOR: hub_config.image_processor(geometry, settings),
    }


def _check_config(layout: str, geometry: AnyGeometry, config: Mapping[str, Any]) -> None:
    """A model that the library's class is not would load there, and compute something else."""
    told = geometry_of(config)
    # A fixed table may be written where a trained one is kept; ViTMAE's config tells no position.
    free = layout == "hf" or (
        isinstance(geometry, Geometry)
        and (geometry.position in SINCOS, told.position) == (True, "learned")
    )
    names = [f.name for f in fields(geometry) if f.name != "position" or not free]
    lines = geometry.differences(told, names)
    if lines:
        kind = config["model_type"]
        listed = "; ".join(lines)
        raise UserError(
            f"transformers' {kind} cannot be this model (field: model, {kind}): {listed}. "
            "Take format timm, or name a file instead of a folder."
        )


def _check_params(params: Mapping[str, Any], geometry: AnyGeometry) -> None:
    """Wrong heads or a wrong patch size would give a file that loads and computes nonsense.

    Parts that only a method knows ("losspred/...") are no matter of a geometry; they are dropped.
    """
    needed = param_shapes(geometry)
    parts = {*PARTS, *(path.split("/")[0] for path in needed)}
    leaves = {p: leaf for p, leaf in flatten(params).items() if p.split("/")[0] in parts}
    found = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
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


def _notes(layout: str, geometry: AnyGeometry) -> tuple[str, ...]:
    if not isinstance(geometry, Geometry):
        square = len(set(geometry.image_size)) == 1
        decodes = layout == "hf_swin" and geometry.pixel_head
        note = "transformers decodes square images only; this model's are not square"
        return (note,) if decodes and not square else ()
    rows, columns = geometry.grid
    official = layout == "mae" and geometry.has_decoder
    owner = "the official MAE code" if official else "transformers"
    ratios = geometry.mlp_hidden * geometry.decoder_dim, geometry.decoder_mlp_hidden * geometry.dim
    eps = hub_config.TIMM_NORM_EPS[geometry.pre_norm]
    notes = (
        (
            rows != columns and (official or layout == "hf"),
            f"{owner} builds square patch grids only for this model, so it cannot take this one's "
            f"{rows}x{columns}; timm can take the encoder",
        ),
        (
            official and not geometry.cls,
            "the official MAE code always has a cls token; this model has none",
        ),
        (
            official and ratios[0] != ratios[1],
            "the official MAE code has one mlp_ratio; this model's decoder has its own",
        ),
        (
            layout == "hf",
            "transformers' ViTMAE masks in every forward pass, also in evaluation; for features "
            "set config.mask_ratio = 0, or export with format hf_vit",
        ),
        (
            layout in ("timm", "hf_vit") and geometry.position in SINCOS,
            f"{'timm' if layout == 'timm' else owner} trains the position table; here it holds the "
            "fixed sin-cos table",
        ),
        (
            layout in ("timm", "classify") and geometry.eps != eps,
            f"timm's norms have eps={eps} unless norm_layer says otherwise; this model has "
            f"{geometry.eps}",
        ),
    )
    return tuple(sentence for holds, sentence in notes if holds)
