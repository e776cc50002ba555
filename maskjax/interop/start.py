"""An encoder's weights as the start of another model: fine-tuning, probes.

What the official fine-tuning codes do when they load a file: decoders, mask tokens and old heads
are left out; fixed positions become the start of a trained table; a table of relative biases that
all blocks shared becomes one for each block; tables of another grid or window are resampled.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskjax.errors import UserError
from maskjax.interop import folders
from maskjax.interop.hf_config import geometry_of
from maskjax.interop.load import import_weights
from maskjax.interop.native import NATIVE
from maskjax.interop.paths import flatten, matches, unflatten
from maskjax.nn.families import AnyGeometry, SwinGeometry, from_metadata
from maskjax.nn.geometry import SINCOS, Geometry

# Of two ViTs, what must be the same for the blocks of one to mean the same in the other.
SAME = (
    *("patch_size", "channels", "dim", "depth", "heads", "mlp_hidden", "cls", "dist_token"),
    *("registers", "layer_scale", "qkv_bias", "mlp", "activation", "pre_norm", "patch_bias"),
)
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"


@dataclass(frozen=True)
class Start:
    """The leaves that a model starts with, and what became of the rest.

    Attributes:
        leaves: Our path -> array, of every parameter that was found.
        kept: Paths that were not, and keep their initial value.
        left: Paths of the source that the model has no place for.
        notes: What was changed on the way.
    """

    leaves: dict[str, np.ndarray]
    kept: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.leaves)} arrays"]
        lines += [f"  new: {', '.join(self.kept)}"] if self.kept else []
        lines += [f"  left out: {', '.join(self.left)}"] if self.left else []
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def start_from(
    params: Mapping[str, Any],
    like: Mapping[str, Any],
    old: AnyGeometry | None,
    new: AnyGeometry | None,
    fresh: Iterable[str],
    where: str,
) -> Start:
    """Fits the parameters of one model to those of another.

    Args:
        params: Nested dict of arrays, "encoder" among them.
        like: Nested dict of arrays or shapes to fill.
        old, new: Geometries of both; None where a method has none: then names and shapes decide.
        fresh: Patterns of paths that may be missing or of another shape.
        where: What to call the source in errors.

    Raises:
        UserError: The encoders are of different kinds, or an array is missing or of another shape.
    """
    found, wanted = flatten(params), flatten(like)
    notes: list[str] = []
    if old is not None and new is not None:
        found = _fitted(found, wanted, old, new, where, notes)
    found |= _other_windows(found, wanted, notes)
    leaves, kept, wrong = {}, [], []
    for path, leaf in wanted.items():
        array = found.get(path)
        if array is not None and tuple(array.shape) == tuple(leaf.shape):
            leaves[path] = np.asarray(array, leaf.dtype)
        elif matches(path, fresh):
            kept.append(path)
        else:
            has = "missing" if array is None else f"{tuple(array.shape)} there"
            wrong.append(f"  {path}: {has}, {tuple(leaf.shape)} here")
    if wrong or not leaves:
        advice = "init_missing=('PATTERN',) lets a part keep its initial value."
        head = f"{where} has not the encoder of this model:"
        raise UserError("\n".join([head, *wrong[:20], advice]))
    left = (path for path in found if path not in leaves)
    return Start(leaves, tuple(kept), tuple(dict.fromkeys(map(_part, left))), tuple(notes))


def start_from_file(
    path: str | os.PathLike,
    like: Mapping[str, Any],
    new: AnyGeometry | None,
    fresh: Iterable[str],
    *,
    format: str | None = None,
    unused: Iterable[str] = (),
) -> Start:
    """`start_from` a weights file or folder of any layout.

    A file that says nothing of its geometry is taken for the encoder of the model, pretrained: with
    a final norm and no classifier unless its keys say otherwise.

    Raises:
        UserError: As `import_weights` and `start_from`.
    """
    found = folders.read(path)
    if found.metadata.get("layout") == NATIVE:
        return start_from(unflatten(found.arrays), like, None, new, fresh, str(path))
    theirs = from_metadata(found.metadata) or geometry_of(found.config, f"{path}/config")
    old = theirs or _supposed(found.arrays, new)
    if old is None:
        raise UserError(f"{path}: this model has no weights format; give init_from a run's folder.")
    old = old.encoder_only()
    params, report = import_weights(
        path, None, old, format, allow_unused=tuple(unused), encoder_only=True
    )
    start = start_from(params, like, report.geometry, new, fresh, str(path))
    return dataclasses.replace(start, notes=(*report.notes, *start.notes))


def _supposed(arrays: Mapping[str, np.ndarray], new: AnyGeometry | None) -> AnyGeometry | None:
    """The geometry of a bare file, by the model that it is for and by its keys."""
    if new is None:
        return None
    plain = {"num_classes": 0} if isinstance(new, SwinGeometry) else {}
    if isinstance(new, Geometry) and "fc_norm.weight" not in arrays:
        plain = {"pool": "none", "num_classes": 0}
        if any(key.endswith(SHARED_TABLE) for key in arrays):
            plain["relative"] = "shared"
        elif not any(key.endswith("relative_position_bias_table") for key in arrays):
            plain["relative"] = "none"
    elif new.num_classes and "head.weight" in arrays:
        plain["num_classes"] = len(arrays["head.weight"])
    return dataclasses.replace(new, **plain)


def _fitted(
    found: dict[str, Any],
    wanted: Mapping[str, Any],
    old: AnyGeometry,
    new: AnyGeometry,
    where: str,
    notes: list[str],
) -> dict[str, Any]:
    """The tables of a ViT for the model's grid and kind of positions."""
    if type(old) is not type(new):
        kinds = " and ".join(g.FAMILY or "vit" for g in (old, new))
        raise UserError(f"{where} and the model are networks of different families: {kinds}.")
    if not isinstance(new, Geometry):
        return found
    lines = list(old.differences(new, SAME))
    if new.position not in ("learned", old.position):
        lines.append(f"position: {old.position}, {new.position}")
    if lines:
        listed = [f"  {line}" for line in lines]
        head = f"{where} has another encoder than the model (field: there, here):"
        raise UserError("\n".join([head, *listed]))
    found = dict(found)
    if "encoder/pos_embed" in wanted:
        found["encoder/pos_embed"] = _positions(found, old, new, where, notes)
    path = "encoder/blocks/relative"
    if path in wanted and old.relative != "none":
        found[path] = _relative(found, old, new, notes)
        found.pop("encoder/relative", None)
    return found


def _positions(
    found: Mapping[str, Any], old: Geometry, new: Geometry, where: str, notes: list[str]
) -> np.ndarray:
    from maskjax.nn.position import resize_table, sincos_2d

    if old.position == "learned":
        table = np.asarray(found["encoder/pos_embed"])
    elif old.position in SINCOS:
        first = SINCOS[old.position]
        table = sincos_2d(old.grid, old.dim, cls=old.prefix_rows > 0, first=first)
        notes.append("the position table starts as the fixed one, and is trained")
    else:
        raise UserError(f"{where} has position={old.position!r}: no table to start from.")
    if old.grid != new.grid:
        notes.append(f"positions resampled from {old.grid} to {new.grid}, bicubic (MAE)")
    return np.asarray(resize_table(table, old.grid, new.grid))


def _relative(
    found: Mapping[str, Any], old: Geometry, new: Geometry, notes: list[str]
) -> np.ndarray:
    """A table for each block: [depth, T, H]."""
    from maskjax.nn.relative import resize_relative

    if old.relative == "shared":
        notes.append("each block has a copy of the shared table of relative biases (SimMIM)")
        tables = np.asarray(found["encoder/relative"])[None]
    else:
        tables = np.asarray(found["encoder/blocks/relative"])
    if old.grid != new.grid:
        notes.append(f"relative biases resampled from {old.grid} to {new.grid} (SimMIM, BEiT)")
    resized = np.stack([resize_relative(table, old.grid, new.grid) for table in tables])
    return np.broadcast_to(resized, (new.depth, *resized.shape[1:]))


def _other_windows(
    found: Mapping[str, Any], wanted: Mapping[str, Any], notes: list[str]
) -> dict[str, np.ndarray]:
    """The tables of a Swin's blocks, resampled where its windows have another side."""
    from maskjax.nn.relative import resize_relative

    resized = {}
    for path, leaf in wanted.items():
        there = path.startswith("encoder/stage") and path.endswith("/relative") and path in found
        if not there or found[path].shape == tuple(leaf.shape):
            continue
        old, new = ((math.isqrt(tables.shape[-2]) + 1) // 2 for tables in (found[path], leaf))
        tables = [resize_relative(np.asarray(t), (old, old), (new, new)) for t in found[path]]
        resized[path] = np.stack(tables)
        notes.append(f"{path} resampled from windows of {old} to {new} (SimMIM)")
    return resized


def _part(path: str) -> str:
    """The part of a tree that a path belongs to, for reports."""
    first, _, rest = path.partition("/")
    return f"{first}/{rest.partition('/')[0]}" if first == "encoder" else first
