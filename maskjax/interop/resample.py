"""Learned position tables and relative bias tables of another patch grid, resampled."""

import math
from dataclasses import dataclass

import numpy as np

from maskjax.interop.rules import Resize

Grid = tuple[int, int]


@dataclass(frozen=True)
class Resampling:
    """What is known of a file's tables.

    Attributes:
        grid: (rows, columns) of the file's patches; None = not told, so they must be square.
        antialias: Resample as timm does, not as MAE's fine-tuning and Hugging Face do.
    """

    grid: Grid | None = None
    antialias: bool = False


def resampled(resize: Resize, array: np.ndarray, how: Resampling) -> tuple[np.ndarray | None, str]:
    """The table for the model's grid, in float32.

    Args:
        resize: Of the rule.
        array: The file's tensor, rows on the last axis but one.
        how: What is known of the file.

    Returns:
        The table and what was done, for the report; (None, "") when the file's grid is not known.
    """
    count = array.shape[-2] - resize.extra
    old = how.grid if how.grid and _rows(resize.kind, how.grid) == count else None
    old = old or _square(resize.kind, count)
    if old is None:
        return None, ""
    table = np.asarray(array, np.float32).reshape(array.shape[-2:])
    if resize.kind == "relative":
        from maskjax.nn.relative import resize_relative

        new, way = resize_relative(table, old, resize.grid), "on a geometric grid (SimMIM, BEiT)"
    else:
        from maskjax.nn.position import resize_table

        new = np.asarray(resize_table(table, old, resize.grid, antialias=how.antialias))
        way = "bicubic and antialiased (timm)" if how.antialias else "bicubic (MAE, Hugging Face)"
    sizes = (f"{rows}x{columns}" for rows, columns in (old, resize.grid))
    sentence = f"resampled from {' to '.join(sizes)}, {way}"
    return new.reshape(*array.shape[:-2], *new.shape), sentence


def _rows(kind: str, grid: Grid) -> int:
    rows, columns = grid
    return (2 * rows - 1) * (2 * columns - 1) if kind == "relative" else rows * columns


def _square(kind: str, count: int) -> Grid | None:
    side = math.isqrt(max(0, count))
    if side < 2 or side * side != count:
        return None
    if kind == "relative":
        return ((side + 1) // 2,) * 2 if side % 2 else None
    return side, side
