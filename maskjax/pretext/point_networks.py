"""From entries of `config.model` to the sizes of hierarchies over point clouds."""

from typing import Any

from ml_collections import ConfigDict

from maskjax import options
from maskjax.method import Batch, require
from maskjax.nn.point_encoder import PointSize


def groups(cfg: ConfigDict, example: Batch) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """num_groups and group_sizes of every scale, checked against num_points and the data.

    Raises:
        UserError: if they do not fit each other.
    """
    options.require_fields(example, "points")
    found, num, sizes = example["points"].shape[1:], tuple(cfg.num_groups), tuple(cfg.group_sizes)
    what = f"the data has clouds of {found}"
    require(found == (cfg.num_points, 3), "model.num_points", cfg.num_points, what)
    fits = len(num) >= 2 and _whole(*num)
    require(fits, "model.num_groups", num, "must be positive ints, for 2 scales or more")
    below = (cfg.num_points, *num[:-1])
    falls = all(own <= last for own, last in zip(num, below, strict=True))
    what = f"must not rise, starting from model.num_points = {cfg.num_points}"
    require(falls, "model.num_groups", num, what)
    pairs = zip(sizes, below, strict=False)
    fits = len(sizes) == len(num) and _whole(*sizes) and all(k <= last for k, last in pairs)
    what = f"must be {len(num)} ints from 1 to what there is to choose from, {below}"
    require(fits, "model.group_sizes", sizes, what)
    return num, sizes


def size(cfg: ConfigDict, path: str) -> PointSize:
    """Reads dims, depths and heads at `config.<path>`.

    Raises:
        UserError: if one is no positive int, or the heads do not divide the widths.
    """
    for key in ("dims", "depths"):
        values = tuple(cfg[key])
        fits = len(values) > 0 and _whole(*values)
        require(fits, f"{path}.{key}", values, "must be positive ints, one for each scale")
    same = len(cfg.dims) == len(cfg.depths)
    require(same, f"{path}.depths", tuple(cfg.depths), f"must be as many as {path}.dims")
    divide = _whole(cfg.heads) and not any(dim % cfg.heads for dim in cfg.dims)
    require(divide, f"{path}.heads", cfg.heads, f"must divide {path}.dims = {tuple(cfg.dims)}")
    return PointSize(tuple(cfg.dims), tuple(cfg.depths), cfg.heads)


def check_scales(encoder: PointSize, scales: int):
    """Checks that the encoder is for so many scales.

    Raises:
        UserError: otherwise.
    """
    what = f"must be for the {scales} scales of model.num_groups"
    require(len(encoder.dims) == scales, "model.encoder.dims", encoder.dims, what)


def check_rate(cfg: ConfigDict, key: str):
    """Checks that a rate lies in [0, 1).

    Raises:
        UserError: otherwise.
    """
    fits = isinstance(cfg[key], int | float) and 0 <= cfg[key] < 1
    require(fits, f"model.{key}", cfg[key], "must be a number in [0, 1)")


def _whole(*values: Any) -> bool:
    return all(isinstance(value, int) and value > 0 for value in values)
