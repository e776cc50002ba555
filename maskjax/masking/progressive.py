"""Progressive dropping of redundant tokens along the depth of a network (Hybrid Distill).

Hybrid Distillation (Shi et al. 2024). No code was published; the paper names the idea, and how
redundancy is measured and when it is dropped is our reconstruction, open as arguments.
"""

import itertools
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.sampling import count_visible
from maskjax.masking.split import TokenSplit


def keep_counts(num_tokens: int, mask_ratio: float, num_points: int = 3) -> tuple[int, ...]:
    """How many tokens stay after each point, the same share at each: N * (1 - ratio)**(i / points).

    The last number is `count_visible(N, ratio)`; the others are rounded.

    Raises:
        ValueError: unless 0 <= mask_ratio < 1, a token stays and there is a point.
    """
    last = count_visible(num_tokens, mask_ratio)
    if num_points < 1:
        raise ValueError(f"num_points must be at least 1; got {num_points}")
    share = (1 - mask_ratio) ** (1 / num_points)
    steps = [round(num_tokens * share**i) for i in range(1, num_points)]
    return (*(max(step, last) for step in steps), last)


def redundancy(
    features: Array,
    active: Array | None = None,
    *,
    noise_or_key: Array | None = None,
    num_anchors: int | None = None,
) -> Array:
    """How alike each token is to the others: its mean cosine similarity to all that are active.

    Args:
        features: float[..., N, D], patch tokens without the class token.
        active: bool[..., N], which tokens it is compared with; None for all.
        noise_or_key: for anchors: one typed PRNG key, or noise float[..., N]; the active tokens
            with the smallest noise are the anchors.
        num_anchors: A in 2..N compares with a random subset of this size only; None with all.

    Returns:
        float32[..., N] in [-1, 1], for all tokens; no gradient.

    Raises:
        ValueError: for anchors without noise, or A outside 2..N.
    """
    features = jax.lax.stop_gradient(features.astype(jnp.float32))
    active = jnp.ones(features.shape[:-1], bool) if active is None else active
    anchors = _anchors(active, noise_or_key, num_anchors)
    length = jnp.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / jnp.maximum(length, 1e-12)
    # The sum of the cosines is one product with the sum of the anchors: no N x N matrix.
    total = jnp.sum(unit * anchors[..., None], -2, keepdims=True)
    own = jnp.where(anchors, jnp.square(unit).sum(-1), 0)
    others = anchors.sum(-1, keepdims=True) - anchors
    return ((unit * total).sum(-1) - own) / jnp.maximum(others, 1)


def drop(score: Array, *, num_keep: int) -> tuple[Array, Array]:
    """Splits tokens by score: (ids kept, in raster order; ids dropped, lowest score first).

    Args:
        score: real[..., K]; the highest are dropped, among equals the higher ids.
        num_keep: static, in 0..K.

    Raises:
        ValueError: if `num_keep` is outside 0..K.
    """
    if not 0 <= num_keep <= score.shape[-1]:
        raise ValueError(f"num_keep must lie in 0..{score.shape[-1]} (tokens); got {num_keep}")
    order = jnp.argsort(score, -1).astype(jnp.int32)
    return jnp.sort(order[..., :num_keep], -1), order[..., num_keep:]


def progressive(
    features: Sequence[Array],
    num_keep: Sequence[int],
    *,
    noise_or_key: Sequence[Array] | Array | None = None,
    num_anchors: int | None = None,
) -> TokenSplit:
    """Drops the most redundant tokens at several points; each point looks at its own features.

    The part of the split that is visible survives all points. The others lie behind it, those that
    went last first, so the tokens that are active after point p are a slice: `active_ids`. A
    network that takes its tokens in this order drops them by slicing: x[: num_keep[p]].

    Args:
        features: for each of the P points, float[N, D] of all tokens (a teacher's, in depth).
        num_keep: how many tokens stay after each point, not rising (`keep_counts`).
        noise_or_key: for anchors: one typed PRNG key, or P arrays of noise float[N].
        num_anchors: see `redundancy`.

    Returns:
        TokenSplit with ids int32[N] and P cuts: num_keep, reversed.

    Raises:
        ValueError: if the numbers rise, exceed N, or are not as many as the features.
    """
    if len(features) != len(num_keep) or not features:
        raise ValueError(f"{len(features)} features for {len(num_keep)} points; one each is needed")
    num_tokens = features[0].shape[-2]
    num_keep = tuple(num_keep)
    if any(a < b for a, b in itertools.pairwise((num_tokens, *num_keep))):
        raise ValueError(f"num_keep {num_keep} must not rise, nor exceed {num_tokens}")
    left, active, dropped = num_tokens, jnp.ones(num_tokens, bool), []
    for point, (tokens, count) in enumerate(zip(features, num_keep, strict=True)):
        chex.assert_axis_dimension(tokens, -2, num_tokens)
        noise = _of_point(noise_or_key, point)
        score = redundancy(tokens, active, noise_or_key=noise, num_anchors=num_anchors)
        order, active = _lowest(score, active, count)
        dropped.insert(0, order[count:left])
        left = count
    return TokenSplit(jnp.concatenate([jnp.sort(order[:left]), *dropped]), num_keep[::-1])


def active_ids(split: TokenSplit, point: int) -> Array:
    """int32[..., num_keep[point]]: the tokens that stay after a point; a slice, free.

    They are in raster order only after the last point; -1 gives that one.
    """
    return split.ids[..., : split.cuts[::-1][point]]


def _lowest(score: Array, active: Array, count: int) -> tuple[Array, Array]:
    """Active ids by rising score, then all others: int32[N]; and which are the first `count`.

    By comparison with the last of these: neither a look-up nor a second sort.
    """
    # Finite, so that NaN comes after every score and before what is not active.
    score = jnp.where(jnp.isnan(score), jnp.finfo(score.dtype).max, score)
    ids = jnp.arange(score.shape[-1], dtype=jnp.int32)
    scores, order = jax.lax.sort((jnp.where(active, score, jnp.inf), ids), num_keys=1)
    if count == 0:
        return order, jnp.zeros_like(active)
    last, last_id = scores[count - 1], order[count - 1]
    return order, active & ((score < last) | ((score == last) & (ids <= last_id)))


def _anchors(active: Array, noise_or_key: Array | None, num: int | None) -> Array:
    if num is None:
        return active
    num_tokens = active.shape[-1]
    if noise_or_key is None or not 2 <= num <= num_tokens:
        raise ValueError(f"num_anchors={num} needs noise_or_key, and a number in 2..{num_tokens}")
    noise = jnp.where(active, noise_of(noise_or_key, (num_tokens,)), jnp.inf)
    return active & (jnp.argsort(jnp.argsort(noise, -1), -1) < num)


def _of_point(noise_or_key: Sequence[Array] | Array | None, point: int) -> Array | None:
    if noise_or_key is None or isinstance(noise_or_key, list | tuple):
        return None if noise_or_key is None else noise_or_key[point]
    return jax.random.fold_in(noise_or_key, point)
