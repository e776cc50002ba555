"""The spatial and video generators, one row each, and what every one of them promises."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from maskjax.masking.blocks import block
from maskjax.masking.cells import coarse
from maskjax.masking.center import center_out
from maskjax.masking.grid_cells import grid
from maskjax.masking.holes import box, irregular
from maskjax.masking.multi_blocks import multiblock
from maskjax.masking.regions import hide_regions, region
from maskjax.masking.split import TokenSplit
from maskjax.masking.video import running_cell, tube

# One row for each generator; the other rows are variants.
PLAIN = (
    "block beit",
    "grid",
    "coarse",
    "centre",
    "tube",
    "running cell",
    "regions",
    "tokens of a region",
    "multiblock",
    "box",
    "irregular",
)
OWNER = jnp.asarray(np.repeat([0, 1, 1, 2, 3, 4, 5], 6))
MEMBERS = jnp.asarray(np.arange(30) // 10 == np.arange(3)[:, None])


class Row(NamedTuple):
    """A generator with small sizes.

    Attributes:
        sample: key -> what it returns, for one example.
        marked: what it returns (batched) -> bool[B, ...], what a coverage test counts.
        count: how many are marked, every time; None where that varies by law.
        even: whether all places are marked equally often.
    """

    sample: Callable[[Any], Any]
    marked: Callable[[Any], Any]
    count: int | None
    even: bool = False


def _hidden(split: TokenSplit):
    return split.hidden()


def _row(generator, size, num_visible, even=False, **options) -> Row:
    def sample(key):
        return generator(key, size, num_visible=num_visible, **options)

    return Row(sample, _hidden, int(np.prod(size)) - num_visible, even)


ROWS = {
    "block beit": _row(block, (7, 9), 38, min_block=4, law="beit"),
    "block cae": _row(block, (7, 9), 31, min_block=4, law="cae"),
    "block thin": _row(block, (2, 5), 4, min_block=1, law="cae", num_tries=8),
    "block, few tries": _row(block, (6, 6), 10, min_block=2, num_tries=3),
    "block of equal size": _row(block, (8, 8), 40, min_block=4, max_block=4),
    "grid": _row(grid, (6, 4), 6, even=True),
    "grid, two of six": _row(grid, (4, 6), 8, even=True, cell=(2, 3)),
    "coarse": _row(coarse, (6, 8), 20, even=True, cell=2),
    "coarse, one cell divided": _row(coarse, (6, 6), 17, cell=2),
    "coarse, patches of 14": _row(coarse, (8, 8), 25, cell=32 / 14),
    "centre": _row(center_out, (7, 6), 25, max_shift=0.5),
    "border": _row(center_out, (7, 6), 8, max_shift=0.5, hide="border", shape="disc"),
    "tube": _row(tube, (3, 4, 5), 21, even=True),
    "tube in raster order": _row(tube, (2, 3, 4), 10, even=True, order="raster"),
    "running cell": _row(running_cell, (4, 4, 6), 48, even=True),
    "running cell, one of six": _row(running_cell, (5, 4, 6), 20, even=True, cell=(2, 3)),
    "regions": Row(
        lambda key: hide_regions(key, OWNER, num_visible=20, num_regions=6), _hidden, 22
    ),
    "tokens of a region": Row(
        lambda key: region(MEMBERS, max_tokens=6, noise_or_key=key)[0],
        lambda tokens: tokens.members(30).any(-2),
        18,
    ),
    "multiblock": Row(
        lambda key: multiblock(key, (7, 8), min_context=6),
        lambda sets: jnp.stack([sets[0].members(56), sets[1].members(56).any(-2)], 1),
        None,
    ),
    "multiblock, at most 12": Row(
        lambda key: multiblock(key, (7, 8), num_targets=1, max_context=12, min_context=12),
        lambda sets: sets[0].members(56),
        12,
    ),
    "box": Row(lambda key: box(key, (9, 12)), lambda hole: hole, None),
    "boxes": Row(lambda key: box(key, (9, 12), area=0.1, num_boxes=3), lambda hole: hole, None),
    "irregular": Row(
        lambda key: irregular(key, (12, 16), area=0.25, num_strokes=(1, 3), num_turns=3),
        lambda hole: hole,
        48,
    ),
}
