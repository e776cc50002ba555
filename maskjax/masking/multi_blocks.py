"""Context and target blocks (I-JEPA), for each example on its own."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import is_key, noise_of
from maskjax.masking.split import TokenSet

Range = tuple[float, float]


class MultiblockNoise(NamedTuple):
    """What `multiblock` consumes, uniform in [0, 1).

    Attributes:
        blocks: float[T, 1 + M, 4], for each of T tries the context and M targets: area, aspect
            ratio, top, left.
        order: float[N], the order of the context tokens.
    """

    blocks: Array
    order: Array


def multiblock(
    noise_or_key: MultiblockNoise | Array,
    grid: tuple[int, int],
    *,
    num_targets: int = 4,
    target_scale: Range = (0.15, 0.2),
    target_aspect: Range = (0.75, 1.5),
    context_scale: Range = (0.85, 1.0),
    context_aspect: Range = (1.0, 1.0),
    min_context: int = 10,
    max_context: int | None = None,
    num_tries: int = 8,
) -> tuple[TokenSet, TokenSet]:
    """M target blocks that may overlap, and one context block without what the targets cover.

    I-JEPA (Assran et al. 2023, section 3; defaults of the paper, from memory): a block's area is
    a uniform share of the grid, its aspect ratio uniform, its sides round(sqrt(area * aspect)) and
    round(sqrt(area / aspect)), its place uniform. Otherwise than in the released code

    - places include the last row and column, and a block may be as large as the grid;
    - every block of every example has a size of its own. The released code needs one size for the
      batch and cuts all sets to the smallest of the batch, in raster order, which makes the result
      depend on the batch and drops the lower part of the image from the context. Here the shapes
      are static because sets are padded: `valid` says what counts;
    - there are `num_tries` draws, and the first with at least `min_context` context tokens is
      taken. If none has them, all targets of the first draw move to the place of its first target,
      and the context is the rest of the grid. No endless loop, and never an empty context.

    Args:
        noise_or_key: one typed PRNG key, or the noise.
        grid: (rows, columns); N is their product.
        num_targets: M.
        target_scale, context_scale: range of a block's share of the grid, in (0, 1].
        target_aspect, context_aspect: range of height / width.
        min_context: least number of context tokens.
        max_context: largest number; of more a random subset is taken. Without it the context is
            padded to the largest that there can be: 171 on a grid of 14 x 14, for a mean of 90.
        num_tries: T, static.

    Returns:
        The context, a TokenSet with ids int32[Kc] in random order, and the targets, a TokenSet with
        ids int32[M, Kt] in raster order; both with bool `valid`, True first. Every token of a
        target is missing from the context. Each target has at least one token.

    Raises:
        ValueError: if an option is outside its range, or one target may leave fewer than
            `min_context` tokens.
    """
    law = plan_multiblock(
        grid,
        num_targets,
        (target_scale, target_aspect),
        (context_scale, context_aspect),
        (min_context, max_context),
        num_tries,
    )
    noise = noise_or_key
    if is_key(noise):
        blocks, order = jax.random.split(noise)
        shape = (num_tries, 1 + num_targets, 4)
        noise = MultiblockNoise(noise_of(blocks, shape), noise_of(order, (math.prod(grid),)))
    chex.assert_shape(noise.blocks, (None, 1 + num_targets, 4))
    chex.assert_shape(noise.order, (math.prod(grid),))
    return context_and_targets(noise, law)


class Multiblock(NamedTuple):
    """The options of `multiblock`, checked.

    Attributes:
        grid: (rows, columns).
        target, context: ranges of share and aspect ratio.
        min_context: least number of context tokens.
        capacity: room for context tokens.
        target_capacity: room for the tokens of a target.
    """

    grid: tuple[int, int]
    target: tuple[Range, Range]
    context: tuple[Range, Range]
    min_context: int
    capacity: int
    target_capacity: int


def plan_multiblock(
    grid: tuple[int, int],
    num_targets: int,
    target: tuple[Range, Range],
    context: tuple[Range, Range],
    num_context: tuple[int, int | None],
    num_tries: int,
) -> Multiblock:
    """Checks the options of `multiblock` and finds the sizes of its sets.

    Raises:
        ValueError: as `multiblock`.
    """
    targets, contexts = _reachable(grid, *target), _reachable(grid, *context)
    least, most = num_context
    capacity = int(min(contexts.max(), math.prod(grid) - targets.min()))
    capacity = capacity if most is None else min(capacity, most)
    _check(num_targets, num_tries, least, capacity, math.prod(grid) - targets.max())
    return Multiblock(grid, target, context, least, capacity, int(targets.max()))


def context_and_targets(
    noise: MultiblockNoise, law: Multiblock, xp: Any = jnp
) -> tuple[TokenSet, TokenSet]:
    """The sets of `multiblock` from its noise; `xp` is jax.numpy or numpy."""
    context = _boxes(noise.blocks[:, 0], law.grid, *law.context, xp)
    target = _boxes(noise.blocks[:, 1:], law.grid, *law.target, xp)
    context, target = _first_with(context, target, law.grid, law.min_context, xp)
    members = (_cover(context, law.grid, xp) & ~_cover(target, law.grid, xp).any(0)).reshape(-1)
    order = xp.argsort(xp.where(members, noise.order, 2), stable=True).astype(np.int32)
    valid = xp.arange(law.capacity) < members.sum(dtype=np.int32)
    context_set = TokenSet(order[: law.capacity], valid)
    return context_set, _tokens_of(target, law.grid, law.target_capacity, xp)


def _boxes(noise: Array, grid: tuple[int, int], scale: Range, aspect: Range, xp: Any) -> Array:
    """noise float[..., 4] -> int32[..., 4]: top, left, height, width."""
    area = math.prod(grid) * (scale[0] + (scale[1] - scale[0]) * noise[..., 0])
    ratio = aspect[0] + (aspect[1] - aspect[0]) * noise[..., 1]
    sides = xp.stack([xp.sqrt(area * ratio), xp.sqrt(area / ratio)], -1)
    sides = xp.clip(xp.round(sides), 1, xp.asarray(grid))
    free = xp.asarray(grid) - sides
    # The last place, `free`, is included; the minimum guards against rounding up to 1.
    start = xp.minimum(xp.floor(noise[..., 2:] * (free + 1)), free)
    return xp.concatenate([start, sides], -1).astype(np.int32)


def _cover(boxes: Array, grid: tuple[int, int], xp: Any) -> Array:
    """int32[..., 4] -> bool[..., rows, columns]."""
    inside = []
    for axis, length in enumerate(grid):
        offset = xp.arange(length) - boxes[..., axis, None]
        inside.append((offset >= 0) & (offset < boxes[..., axis + 2, None]))
    return inside[0][..., :, None] & inside[1][..., None, :]


def _first_with(
    context: Array, target: Array, grid: tuple[int, int], min_context: int, xp: Any
) -> tuple[Array, Array]:
    """The first of T tries [T, 4], [T, M, 4] that leaves enough context, or what always does."""
    left = _cover(context, grid, xp) & ~_cover(target, grid, xp).any(1)
    enough = left.sum((1, 2), dtype=np.int32) >= min_context
    first = enough & (xp.cumsum(enough) == 1)
    pick = lambda boxes: xp.where(first.reshape(-1, *[1] * (boxes.ndim - 1)), boxes, 0).sum(0)  # noqa: E731
    whole = xp.asarray((0, 0, *grid), np.int32)
    found = enough.any()
    context = xp.where(found, pick(context), whole)
    return context, xp.where(found, pick(target), target[0, :1])


def _tokens_of(boxes: Array, grid: tuple[int, int], capacity: int, xp: Any) -> TokenSet:
    """The tokens of boxes int32[M, 4], in raster order, padded to `capacity`; no sort."""
    top, left, height, width = (boxes[..., i, None] for i in range(4))
    k = xp.arange(capacity, dtype=np.int32)
    ids = (top + k // width) * grid[1] + left + k % width
    return TokenSet(xp.minimum(ids, math.prod(grid) - 1), k < height * width)


def _reachable(grid: tuple[int, int], scale: Range, aspect: Range) -> np.ndarray:
    """Areas of all (height, width) that blocks may have, and perhaps a few that they may not.

    A height h stands for real heights in [h - 1/2, h + 1/2], open-ended at 1 and at the grid's
    side. The conditions are necessary ones, with a margin for float32.

    Raises:
        ValueError: if a range is empty or outside its limits.
    """
    if not 0 < scale[0] <= scale[1] <= 1 or not 0 < aspect[0] <= aspect[1]:
        found = f"got scale={scale}, aspect={aspect}"
        raise ValueError(f"0 < scale <= 1 and 0 < aspect are needed, lowest first; {found}")
    area = np.asarray(scale) * math.prod(grid) * (1 - 1e-4, 1 + 1e-4)
    ratio = np.asarray(aspect) * (1 - 1e-4, 1 + 1e-4)
    h, w = np.meshgrid(*(np.arange(1, n + 1) for n in grid), indexing="ij")
    (h_low, h_high), (w_low, w_high) = (
        (np.where(x == 1, 1e-9, x - 0.5), np.where(x == n, np.inf, x + 0.5))
        for x, n in zip((h, w), grid, strict=True)
    )
    meets = lambda low, high, limits: (low <= limits[1]) & (high >= limits[0])  # noqa: E731
    possible = meets(h_low * w_low, h_high * w_high, area)
    possible &= meets(h_low / w_high, h_high / w_low, ratio)
    possible &= meets(h_low**2, h_high**2, area * ratio)
    possible &= meets(w_low**2, w_high**2, area / ratio[::-1])
    return (h * w)[possible]


def _check(num_targets: int, num_tries: int, min_context: int, capacity: int, rest: int):
    if num_targets < 1 or num_tries < 1:
        found = f"got num_targets={num_targets}, num_tries={num_tries}"
        raise ValueError(f"at least one target and one try are needed; {found}")
    if not 1 <= min_context <= min(capacity, rest):
        room = f"at most {min(capacity, rest)} context tokens are certain on this grid"
        hint = "lower min_context or target_scale, or raise max_context"
        raise ValueError(f"min_context is {min_context}, but {room}; {hint}")
