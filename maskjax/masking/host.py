"""Masks in NumPy, for data loaders that make them on the host: no device, no compilation.

The same laws and the same exact counts as the JAX functions of the same names, drawn from a
`numpy.random.Generator`: not the same numbers. Seed the generator by the position of the example
(`np.random.default_rng((seed, position))`), so that masks do not depend on workers or batches.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from maskjax.masking.blocks import PATIENCE, TRIES, Law, check_block
from maskjax.masking.cells import Cell, cell_of_tokens
from maskjax.masking.grid_cells import tokens_by_place, visible_in_cell
from maskjax.masking.guided import sign_of
from maskjax.masking.host_areas import box, irregular, multiblock
from maskjax.masking.video import Grid3, check_tube, running_cell_ids

__all__ = [
    "HostSplit",
    "block",
    "box",
    "coarse",
    "from_scores",
    "grid",
    "irregular",
    "multiblock",
    "random",
    "running_cell",
    "sampled",
    "tube",
]


class HostSplit(NamedTuple):
    """A split in NumPy; `TokenSplit(split.ids, (split.num_visible,))` makes it one of JAX.

    Attributes:
        ids: int32[N], a permutation of the tokens, visible ones first.
        num_visible: K.
        hidden: bool[N] in raster order, True = hidden.
    """

    ids: np.ndarray
    num_visible: int
    hidden: np.ndarray

    @property
    def visible_ids(self) -> np.ndarray:
        """int32[K]."""
        return self.ids[: self.num_visible]

    @property
    def hidden_ids(self) -> np.ndarray:
        """int32[N - K]."""
        return self.ids[self.num_visible :]


def from_scores(scores: np.ndarray, *, num_visible: int) -> HostSplit:
    """The K tokens with the lowest scores are visible: real[N]; ties go to the lower id.

    Raises:
        ValueError: if K is outside 0..N.
    """
    return _split(np.argsort(scores, kind="stable"), num_visible)


def random(rng: np.random.Generator, grid: int | tuple[int, ...], *, num_visible: int) -> HostSplit:
    """As `masking.random`: uniformly random visible tokens.

    Raises:
        ValueError: if K is outside 0..N.
    """
    num_tokens = math.prod((grid,) if isinstance(grid, int) else grid)
    return from_scores(rng.random(num_tokens), num_visible=num_visible)


def tube(rng: np.random.Generator, grid: Grid3, *, num_visible: int) -> HostSplit:
    """As `masking.tube`: the same places at every time step of a grid (T, rows, columns).

    Raises:
        ValueError: if K is outside 0..N or no multiple of T.
    """
    check_tube(grid, num_visible)
    steps, rows, columns = grid
    places = random(rng, (rows, columns), num_visible=num_visible // steps)
    starts = np.arange(steps)[:, None] * (rows * columns)
    parts = ((starts + ids).reshape(-1) for ids in (places.visible_ids, places.hidden_ids))
    return _split(np.concatenate(list(parts)), num_visible)


def running_cell(
    rng: np.random.Generator, grid: Grid3, *, num_visible: int, cell: tuple[int, int] = (2, 2)
) -> HostSplit:
    """As `masking.running_cell`: which tokens VideoMAE V2's decoder predicts.

    Raises:
        ValueError: as `masking.running_cell`.
    """
    return _split(
        running_cell_ids(grid, cell, num_visible)[rng.integers(math.prod(cell))], num_visible
    )


def grid(
    rng: np.random.Generator,
    grid: tuple[int, int],
    *,
    num_visible: int,
    cell: tuple[int, int] = (2, 2),
) -> HostSplit:
    """As `masking.grid`: the same tokens of every cell.

    Raises:
        ValueError: as `masking.grid`.
    """
    in_cell = visible_in_cell(grid, cell, num_visible)
    places = from_scores(rng.random(math.prod(cell)), num_visible=in_cell).ids
    return _split(tokens_by_place(grid, cell)[places].reshape(-1), num_visible)


def sampled(
    rng: np.random.Generator,
    weights: np.ndarray,
    *,
    num_visible: int,
    favour: Literal["visible", "hidden"] = "visible",
) -> HostSplit:
    """As `masking.sampled`: drawn in proportion to weights real[N] >= 0.

    Raises:
        ValueError: if K is outside 0..N or `favour` is unknown.
    """
    shares = np.maximum(weights / max(float(np.max(weights)), 1e-30), 1e-30)
    order = rng.exponential(size=len(shares)) / shares
    return from_scores(order * sign_of(favour), num_visible=num_visible)


def coarse(
    rng: np.random.Generator, grid: tuple[int, int], *, num_visible: int, cell: Cell
) -> HostSplit:
    """As `masking.coarse`: random cells of tokens (SimMIM).

    Raises:
        ValueError: if K is outside 0..N, or for a cell outside its range.
    """
    owner, num_cells = cell_of_tokens(grid, cell)
    return from_scores(rng.random(num_cells)[owner], num_visible=num_visible)


def block(
    rng: np.random.Generator,
    grid: tuple[int, int],
    *,
    num_visible: int,
    law: Law = "beit",
    min_block: int = 16,
    max_block: int | None = None,
    min_aspect: float = 0.3,
    num_tries: int | None = None,
) -> HostSplit:
    """As `masking.block`: rectangles until the count is reached.

    Raises:
        ValueError: as `masking.block`.
    """
    check_block(grid, num_visible, law, min_block, max_block, min_aspect)
    num_hidden = math.prod(grid) - num_visible
    largest = num_hidden if max_block is None else max_block
    num_tries = TRIES[law] if num_tries is None else num_tries
    patience = PATIENCE if law == "beit" else num_tries
    hidden, count, failures = np.zeros(grid, bool), 0, 0
    for _ in range(num_tries):
        if count == num_hidden or failures == patience:
            break
        cap = min(num_hidden - count, largest)
        new = _try_rectangle(rng, hidden, (min_block, cap), min_aspect)
        count += new
        failures = 0 if new else failures + 1
    scores = np.where(hidden, 9.0, _neighbours(hidden) + rng.random(grid))
    return from_scores(scores.reshape(-1), num_visible=num_visible)


def _try_rectangle(
    rng: np.random.Generator, hidden: np.ndarray, areas: tuple[int, int], min_aspect: float
) -> int:
    """Hides a rectangle in place if it fits; how many tokens are new."""
    area = areas[0] + rng.random() * (areas[1] - areas[0])
    aspect = math.exp(math.log(min_aspect) * (1 - 2 * rng.random()))
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if height >= hidden.shape[0] or width >= hidden.shape[1]:
        return 0
    top = rng.integers(hidden.shape[0] - height + 1)
    left = rng.integers(hidden.shape[1] - width + 1)
    part = hidden[top : top + height, left : left + width]
    new = part.size - int(part.sum())
    if new > areas[1]:
        return 0
    part[:] = True
    return new


def _neighbours(hidden: np.ndarray) -> np.ndarray:
    """int64[rows, columns]: how many of the four neighbours are hidden."""
    padded = np.pad(hidden.astype(np.int64), 1)
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]


def _split(ids: np.ndarray, num_visible: int) -> HostSplit:
    if not 0 <= num_visible <= len(ids):
        raise ValueError(f"num_visible must be in 0..{len(ids)}, got {num_visible}")
    hidden = np.zeros(len(ids), bool)
    hidden[ids[num_visible:]] = True
    return HostSplit(ids.astype(np.int32), num_visible, hidden)
