"""Tokens of regions: boxes, or segments of a segmentation map.

Two steps: how much of each token a region covers (`box_shares`, `segment_shares`), then the tokens
as padded sets (`region`) or a mask that hides whole regions (`hide_regions`):

    members = masking.box_shares(boxes, grid, patch) > 0
    tokens, dropped = masking.region(members, max_tokens=64)
"""

import math

import chex
import jax.numpy as jnp
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.patches import patchify
from maskjax.masking.ragged import from_members
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSet, TokenSplit


def box_shares(boxes: Array, grid: tuple[int, int], patch: tuple[int, int]) -> Array:
    """The share of each token's area that lies in each box.

    `> 0` are the tokens that a box touches: the boxes snapped outwards to whole tokens, as in ART
    (2025). `>= 0.5` are those that it covers for the most part.

    Args:
        boxes: real[..., R, 4], (top, left, bottom, right) in pixels, bottom and right exclusive.
            What lies outside the image is cut off; a box without area (all -1, say) has no tokens.
        grid: (rows, columns) of tokens.
        patch: (height, width) of a token in pixels.

    Returns:
        float32[..., R, N] in [0, 1], tokens in raster order.
    """
    chex.assert_axis_dimension(boxes, -1, 4)
    overlaps = []
    for axis, (length, side) in enumerate(zip(grid, patch, strict=True)):
        start = jnp.arange(length, dtype=jnp.float32) * side
        low, high = (boxes[..., axis + i, None].astype(jnp.float32) for i in (0, 2))
        overlap = jnp.minimum(high, start + side) - jnp.maximum(low, start)
        overlaps.append(jnp.clip(overlap / side, 0, 1))
    shares = overlaps[0][..., :, None] * overlaps[1][..., None, :]
    return shares.reshape(*shares.shape[:-2], math.prod(grid))


def segment_shares(segments: Array, patch: tuple[int, int], *, num_segments: int) -> Array:
    """The share of each token's pixels that belong to each segment.

    `.argmax(-2)` is the owner of each token, its largest segment.

    Args:
        segments: int[..., H, W], ids; those outside 0..num_segments-1 belong to no segment.
        patch: (height, width) of a token in pixels; divides the image.
        num_segments: S, static.

    Returns:
        float32[..., S, N] in [0, 1], tokens in raster order.

    Raises:
        ValueError: unless the patch divides the image.
    """
    ids = patchify(segments[..., None], patch)
    numbers = jnp.arange(num_segments, dtype=ids.dtype)[:, None, None]
    return (ids[..., None, :, :] == numbers).mean(-1, dtype=jnp.float32)


def region(
    members: Array, *, max_tokens: int, noise_or_key: Array | None = None
) -> tuple[TokenSet, Array]:
    """The tokens of each region as a padded set.

    Args:
        members: bool[..., N], True = the token is in the region.
        max_tokens: K in 0..N, static: room for each region.
        noise_or_key: which tokens of a region larger than K stay, and the order: one typed PRNG key
            (every region gets noise of its own), or noise float[..., N] in [0, 1), the smallest
            values first. None: the first tokens in raster order; a region that is too large loses
            its lower part then.

    Returns:
        TokenSet with ids int32[..., K] and valid bool[..., K], valid tokens first; and int32[...],
        how many tokens of the region had no room. One sort.

    Raises:
        ValueError: if K is outside 0..N.
    """
    tokens, dropped = from_members(members, max_tokens)
    if noise_or_key is None:
        return tokens, dropped
    order = jnp.where(members, noise_of(noise_or_key, members.shape), 2)
    ids = jnp.argsort(order, -1)[..., :max_tokens].astype(jnp.int32)
    return TokenSet(ids, tokens.valid), dropped


def hide_regions(
    noise_or_key: Array, owner: Array, *, num_visible: int, num_regions: int
) -> TokenSplit:
    """Hides whole regions in random order until exactly N - K tokens are hidden.

    The region that comes last is hidden in part, its last tokens in raster order. Tokens of no
    region are hidden after all regions. A law of ours: semantic masks of given regions with a
    static count.

    Args:
        noise_or_key: one typed PRNG key, or noise float[num_regions] in [0, 1); the regions with
            the largest values are hidden.
        owner: int[N], the region of each token; outside 0..num_regions-1 = of no region.
        num_visible: K in 0..N, static.
        num_regions: R, static.

    Returns:
        TokenSplit with ids int32[N], region by region, and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N.
    """
    chex.assert_rank(owner, 1)
    noise = noise_of(noise_or_key, (num_regions,))
    # By comparison, not by look-up: few regions, and nothing that a partitioner could gather.
    mine = owner[:, None] == jnp.arange(num_regions)
    scores = jnp.where(mine, noise, -1).max(-1)
    return from_scores(scores, num_visible=num_visible)
