"""From a SimMIM pretraining tree to that of the encoder that fine-tuning starts with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskjax.errors import UserError
from maskjax.nn.geometry import Geometry


def finetuned_vit(
    params: Mapping[str, Any], old: Geometry, new: Geometry
) -> dict[str, dict[str, Any]]:
    """{"encoder": ...} of a model with a bias table in each block, from one with a shared table.

    As the official code loads its files: each block gets a copy of the table, resampled where the
    grid is another one; the mask token and the decoder go. With pool "gap" the final norm goes too:
    the model's own "fc_norm" and "head" start anew.

    Args:
        params: Tree of ``old``.
        old: Of the pretraining; relative="shared".
        new: Of the fine-tuning; relative="layer".

    Raises:
        UserError: The geometries are not of these kinds, or differ in more than grid and pooling.
    """
    from maskjax.nn.relative import resize_relative

    if (old.relative, new.relative) != ("shared", "layer"):
        found = f"{old.relative!r} and {new.relative!r}"
        raise UserError(f"fine-tuning: relative must be 'shared', then 'layer'; they are {found}.")
    same = ("dim", "depth", "heads", "mlp_hidden", "patch_size", "channels", "cls", "layer_scale")
    if lines := old.differences(new, (*same, "qkv_bias", "mlp", "position")):
        raise UserError(f"fine-tuning: the geometries differ in {'; '.join(lines)}.")
    gone = ("mask_token", "relative", *(() if new.has_norm else ("norm",)))
    encoder = {name: part for name, part in params["encoder"].items() if name not in gone}
    table = resize_relative(np.asarray(params["encoder"]["relative"]), old.grid, new.grid)
    tables = np.broadcast_to(table, (old.depth, *table.shape))
    return {"encoder": encoder | {"blocks": {**encoder["blocks"], "relative": tables}}}


def finetuned_swin(
    params: Mapping[str, Any], old: Sequence[int], new: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """{"encoder": ...} of a Swin with other windows: its tables resampled, without mask token.

    Args:
        params: Tree of SimMIM with a Swin.
        old, new: Sides of the windows of each stage (`nn.swin_block.window_of`).

    Raises:
        UserError: The tree has another number of stages.
    """
    from maskjax.nn.relative import resize_relative

    encoder = {name: part for name, part in params["encoder"].items() if name != "mask_token"}
    stages = [name for name in encoder if name.startswith("stage")]
    if not len(stages) == len(old) == len(new):
        counts = f"{len(old)} and {len(new)}"
        raise UserError(f"fine-tuning: the Swin has {len(stages)} stages, the windows {counts}.")
    for stage, (side, other) in enumerate(zip(old, new, strict=True)):
        part = encoder[f"stage{stage}"]
        tables = np.asarray(part["blocks"]["relative"])
        resized = [resize_relative(table, (side, side), (other, other)) for table in tables]
        blocks = {**part["blocks"], "relative": np.stack(resized)}
        encoder[f"stage{stage}"] = {**part, "blocks": blocks}
    return {"encoder": encoder}
