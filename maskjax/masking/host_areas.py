"""Blocks and holes in NumPy; `maskjax.masking.host` offers them.

The same formulas as on the device, with numbers from a `numpy.random.Generator`.
"""

import math

import numpy as np

from maskjax.masking.holes import (
    BoxLaw,
    Range,
    StrokeLaw,
    StrokeNoise,
    area_range,
    box_edges,
    check_box,
    check_strokes,
    stroke_distance,
    stroke_shapes,
    strokes,
)
from maskjax.masking.multi_blocks import (
    MultiblockNoise,
    context_and_targets,
    plan_multiblock,
)
from maskjax.masking.multi_blocks import Range as Shares
from maskjax.masking.split import TokenSet


def multiblock(
    rng: np.random.Generator,
    grid: tuple[int, int],
    *,
    num_targets: int = 4,
    target_scale: Shares = (0.15, 0.2),
    target_aspect: Shares = (0.75, 1.5),
    context_scale: Shares = (0.85, 1.0),
    context_aspect: Shares = (1.0, 1.0),
    min_context: int = 10,
    max_context: int | None = None,
    num_tries: int = 8,
) -> tuple[TokenSet, TokenSet]:
    """As `masking.multiblock`: context and targets (I-JEPA), padded sets of NumPy arrays.

    Raises:
        ValueError: as `masking.multiblock`.
    """
    target, context = (target_scale, target_aspect), (context_scale, context_aspect)
    num_context = (min_context, max_context)
    law = plan_multiblock(grid, num_targets, target, context, num_context, num_tries)
    shapes = ((num_tries, 1 + num_targets, 4), (math.prod(grid),))
    noise = MultiblockNoise(*(rng.random(shape, np.float32) for shape in shapes))
    return context_and_targets(noise, law, np)


def box(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    area: Range = (0.1, 0.4),
    aspect: tuple[float, float] = (0.5, 2.0),
    num_boxes: int = 1,
    centred: bool = False,
) -> np.ndarray:
    """As `masking.box`: rectangular holes, bool[H, W], True = hole.

    Raises:
        ValueError: as `masking.box`.
    """
    check_box(num_boxes, aspect)
    law = BoxLaw(size, area_range(area), aspect, centred)
    hole = np.zeros(size, bool)
    for edges in box_edges(rng.random((num_boxes, 4), np.float32), law, np):
        top, left, bottom, right = edges.astype(int)
        hole[top:bottom, left:right] = True
    return hole


def irregular(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    area: Range = (0.1, 0.5),
    num_strokes: tuple[int, int] = (2, 8),
    num_turns: int = 6,
    width: tuple[float, float] = (0.05, 0.15),
) -> np.ndarray:
    """As `masking.irregular`: brush strokes of exact area, bool[H, W], True = hole.

    Raises:
        ValueError: as `masking.irregular`.
    """
    check_strokes(num_strokes, num_turns, width)
    law = StrokeLaw(size, area_range(area), num_strokes, width)
    shapes = stroke_shapes(num_strokes, num_turns)
    noise = StrokeNoise(*(rng.random(shape, np.float32) for shape in shapes))
    corners, scales, count = strokes(noise, law, np)
    present = zip(corners[scales > 0], scales[scales > 0], strict=True)
    field = np.min([stroke_distance(*stroke, size, np) for stroke in present], 0)
    hole = np.zeros(field.size, bool)
    hole[np.argsort(field, axis=None, kind="stable")[:count]] = True
    return hole.reshape(size)
