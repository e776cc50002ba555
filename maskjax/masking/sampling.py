"""From noise, scores or a boolean mask to a `TokenSplit`: the one place where tokens are chosen."""

import math
from collections.abc import Sequence
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.split import TokenSplit

Order = Literal["noise", "raster"]


def count_visible(num_tokens: int, mask_ratio: float) -> int:
    """The number of visible tokens at a hidden share of `mask_ratio`: int(N * (1 - ratio)).

    Truncates in double precision, as the official MAE code does (25 tokens at 0.6: 10 visible).

    Raises:
        ValueError: unless 0 <= mask_ratio < 1 and at least one token stays visible.
    """
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio is the hidden share, in [0, 1); got {mask_ratio}")
    visible = int(num_tokens * (1 - mask_ratio))
    if visible < 1:
        raise ValueError(f"mask_ratio {mask_ratio} leaves none of {num_tokens} tokens visible")
    return visible


def random(
    noise_or_key: Array, grid: int | Sequence[int], *, num_visible: int, order: Order = "noise"
) -> TokenSplit:
    """Uniformly random visible tokens (MAE, He et al. 2022, section 3).

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., N]; the smallest values stay visible.
        grid: number of tokens along each axis; N is their product.
        num_visible: K in 0..N, static.
        order: "noise" keeps the visible ids in noise order as MAE does; "raster" sorts the ids
            inside each part (two more sorts).

    Returns:
        TokenSplit with ids int32[..., N] and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N or `order` is unknown.
        AssertionError: if the noise does not have N values.
    """
    num_tokens = math.prod((grid,) if isinstance(grid, int) else grid)
    if jnp.issubdtype(noise_or_key.dtype, jax.dtypes.prng_key):
        noise = jax.random.uniform(noise_or_key, (num_tokens,))
    else:
        noise = noise_or_key
    chex.assert_axis_dimension(noise, -1, num_tokens)
    split = from_scores(noise, num_visible=num_visible)
    if order == "noise":
        return split
    if order == "raster":
        parts = (jnp.sort(split.visible_ids, -1), jnp.sort(split.hidden_ids, -1))
        return TokenSplit(jnp.concatenate(parts, -1), split.cuts)
    raise ValueError(f"order must be 'noise' or 'raster', got {order!r}")


def from_scores(scores: Array, *, num_visible: int) -> TokenSplit:
    """The `num_visible` tokens with the lowest scores are visible; ties go to the lower id.

    Args:
        scores: real[..., N]; NaN counts as highest.
        num_visible: K in 0..N, static.

    Returns:
        TokenSplit with ids int32[..., N] in ascending order of score. One sort.

    Raises:
        ValueError: if K is outside 0..N.
    """
    return TokenSplit(jnp.argsort(scores, axis=-1).astype(jnp.int32), (num_visible,))


def from_hidden(hidden: Array, *, num_visible: int) -> tuple[TokenSplit, Array]:
    """A split from a boolean mask, made to have exactly `num_visible` visible tokens.

    Where the mask shows too many tokens the last ones in raster order are hidden; where it shows
    too few the first hidden ones become visible.

    Args:
        hidden: bool[..., N], True = hidden.
        num_visible: K in 0..N, static.

    Returns:
        The split (ids in raster order inside what was visible and what was hidden) and
        int32[...], how many tokens had to change sides.

    Raises:
        ValueError: if K is outside 0..N.
    """
    chex.assert_type(hidden, bool)
    moved = jnp.abs((~hidden).sum(-1, dtype=jnp.int32) - num_visible)
    return from_scores(hidden.astype(jnp.int32), num_visible=num_visible), moved
