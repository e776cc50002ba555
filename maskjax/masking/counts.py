"""From a ratio to static counts: rounding rules, buckets for ratios that change, padding."""

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jax import Array

from maskjax.masking.split import TokenSet, TokenSplit

Rounding = Literal["floor", "ceil", "nearest"]
ROUNDINGS = {"floor": math.floor, "ceil": math.ceil, "nearest": round}


def count_hidden(num_tokens: int, mask_ratio: float, *, rounding: Rounding = "floor") -> int:
    """The number of hidden tokens, by the rule of the method; `count_visible` has MAE's.

    CroCo, CAE and VideoMAE V2 hide floor(N * ratio) (of 196 at 0.9: 176, where MAE's rule shows 19
    and hides 177); SimMIM hides ceil(N * ratio) of its cells. In double precision, as in their
    code.

    Raises:
        ValueError: unless 0 <= mask_ratio <= 1, or for an unknown rule.
    """
    if not 0 <= mask_ratio <= 1:
        raise ValueError(f"mask_ratio is the hidden share, in [0, 1]; got {mask_ratio}")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}; got {rounding!r}")
    return ROUNDINGS[rounding](num_tokens * mask_ratio)


def bucket_counts(
    num_tokens: int, low: float, high: float, *, num_buckets: int, multiple: int = 1
) -> tuple[int, ...]:
    """A few counts of visible tokens that stand for all ratios in [low, high].

    A ratio that changes during training changes shapes, and every shape is compiled anew. With
    buckets there are at most `num_buckets` executables: `Method.static` returns
    `nearest_count(...)` of the step.

    Args:
        num_tokens: N.
        low, high: the smallest and the largest hidden share.
        num_buckets: how many counts, evenly spaced; fewer where they coincide.
        multiple: counts are rounded to multiples of this (8 fills the rows of a TPU tile).

    Returns:
        Distinct counts in ascending order, each in 1..N.

    Raises:
        ValueError: unless 0 <= low <= high <= 1, num_buckets >= 1 and 1 <= multiple <= N.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"0 <= low <= high <= 1 is needed; got low={low}, high={high}")
    if num_buckets < 1 or not 1 <= multiple <= num_tokens:
        found = f"got num_buckets={num_buckets}, multiple={multiple}, {num_tokens} tokens"
        raise ValueError(f"num_buckets >= 1 and 1 <= multiple <= num_tokens are needed; {found}")
    most, least = (num_tokens * (1 - ratio) for ratio in (low, high))
    gaps = max(num_buckets - 1, 1)
    start = least if num_buckets > 1 else (least + most) / 2
    wanted = (start + (most - least) * i / gaps for i in range(num_buckets))
    limit = num_tokens // multiple
    return tuple(sorted({min(max(round(x / multiple), 1), limit) * multiple for x in wanted}))


def nearest_count(num_tokens: int, mask_ratio: float, counts: Sequence[int]) -> int:
    """The count of visible tokens nearest to num_tokens * (1 - mask_ratio); ties go to the larger.

    Runs on the host: the result is static.

    Raises:
        ValueError: if there are no counts, or the ratio is outside [0, 1].
    """
    if not counts or not 0 <= mask_ratio <= 1:
        raise ValueError(f"mask_ratio in [0, 1] and counts are needed; got {mask_ratio}, {counts}")
    wanted = num_tokens * (1 - mask_ratio)
    return min(counts, key=lambda count: (abs(count - wanted), -count))


def visible_set(split: TokenSplit, num_visible: Array) -> TokenSet:
    """The visible part of a split as a padded set whose size is data: one executable for all.

    The other way to a changing ratio: draw the split at the largest count, and let only the first
    `num_visible` count. It costs the largest count in every step, and what follows must respect
    `valid` (attention: `attention.valid_keys`; losses: weights).

    Args:
        split: its visible part is the largest set, K tokens.
        num_visible: int32[...], traced or not; clipped to 0..K.

    Returns:
        TokenSet with ids int32[..., K] and valid bool[..., K], the first num_visible.
    """
    ids = split.visible_ids
    valid = jnp.arange(ids.shape[-1]) < jnp.asarray(num_visible)[..., None]
    return TokenSet(ids, jnp.broadcast_to(valid, ids.shape))
