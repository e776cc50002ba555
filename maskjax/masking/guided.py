"""Masks guided by a map of scores: attention, saliency or predicted loss, one value per token."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit

Side = Literal["visible", "hidden"]


def sampled(
    noise_or_key: Array, weights: Array, *, num_visible: int, favour: Side = "visible"
) -> TokenSplit:
    """Tokens drawn without replacement, each draw with probability proportional to the weight.

    With `favour="visible"` the first K draws stay visible: attentive masking of MaskAlign (Xue et
    al. 2023, "Stare at What You See"), where the weight is the teacher's attention, and I2P-MAE's
    2D guidance, where it is the softmax of a saliency. With `favour="hidden"` the first N - K draws
    are hidden, so that what is salient tends to disappear. The same as Gumbel top-k on the
    logarithm of the weights; a temperature T is `weights ** (1 / T)`.

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., N] from Exp(1); the draws go by
            ascending noise / weight.
        weights: real[..., N], >= 0, in any unit; tokens of weight 0 are drawn last, at random.
        num_visible: K in 0..N, static.
        favour: where the tokens go that are drawn first.

    Returns:
        TokenSplit with ids int32[..., N] in the order of the draws (from last to first with
        `favour="hidden"`) and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N or `favour` is unknown.
    """
    noise = noise_of(noise_or_key, weights.shape[-1:], jax.random.exponential)
    largest = weights.max(-1, keepdims=True)
    shares = weights / jnp.where(largest > 0, largest, 1)
    # Not 0, so that tokens of no weight keep a random order among themselves; finite in float32.
    order = noise / jnp.maximum(shares, 1e-30)
    return from_scores(order * sign_of(favour), num_visible=num_visible)


def ranked(scores: Array, *, num_visible: int, favour: Side = "visible") -> TokenSplit:
    """The tokens of the highest scores are visible, or hidden; nothing is random.

    Args:
        scores: real[..., N]; ties go to the lower id.
        num_visible: K in 0..N, static.
        favour: where the tokens of the highest scores go.

    Returns:
        TokenSplit with ids int32[..., N] and cuts (K,); the ids go by descending score with
        `favour="visible"`, else by ascending score.

    Raises:
        ValueError: if K is outside 0..N or `favour` is unknown.
    """
    return from_scores(-jnp.asarray(scores, jnp.float32) * sign_of(favour), num_visible=num_visible)


def easy_to_hard(
    noise_or_key: Array, difficulty: Array, *, num_visible: int, num_hard: int | Array
) -> TokenSplit:
    """HPM's mask: the `num_hard` most difficult tokens are hidden, the rest is random.

    Hard Patches Mining (Wang et al. 2023). `num_hard` may be traced, so a curriculum
    (`hard_counts`) needs one executable. At 0 the mask is uniformly random.

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., N]; of the tokens that are not hard
            those with the smallest noise stay visible.
        difficulty: real[..., N], for example predicted losses; ties count the higher id as harder.
        num_visible: K in 0..N, static.
        num_hard: int, or int32[] or int32[...] (one for each example), in 0..N - K.

    Returns:
        TokenSplit with ids int32[..., N] and cuts (K,); hard tokens stand last. Three sorts.

    Raises:
        ValueError: if K is outside 0..N, or `num_hard` is a Python number outside 0..N - K.
            Traced values are clipped.
    """
    num_tokens = difficulty.shape[-1]
    if isinstance(num_hard, int) and not 0 <= num_hard <= num_tokens - num_visible:
        hidden = f"{num_tokens - num_visible} of {num_tokens} tokens are hidden"
        raise ValueError(f"num_hard is {num_hard} but {hidden}; take 0..{num_tokens - num_visible}")
    noise = noise_of(noise_or_key, (num_tokens,))
    hard = jnp.clip(jnp.asarray(num_hard), 0, num_tokens - num_visible)[..., None]
    rank = jnp.argsort(jnp.argsort(difficulty, -1), -1)
    order = jnp.where(rank >= num_tokens - hard, jnp.inf, noise)
    return from_scores(order, num_visible=num_visible)


def hard_counts(
    num_stages: int, num_hidden: int, *, start: float = 0.0, end: float = 0.5
) -> np.ndarray:
    """How many tokens `easy_to_hard` hides for being hard, at each stage.

    The share of the hidden tokens rises linearly to `end`; stage i (an epoch in HPM) has
    int(num_hidden * (start + (end - start) * (i + 1) / num_stages)), in double precision as in
    HPM's code. Index it with a traced epoch: `jnp.asarray(hard_counts(...))[epoch]`.

    Returns:
        int32[num_stages], in 0..num_hidden.

    Raises:
        ValueError: if a share is outside [0, 1] or there is no stage.
    """
    if num_stages < 1 or not (0 <= start <= 1 and 0 <= end <= 1):
        found = f"got num_stages={num_stages}, start={start}, end={end}"
        raise ValueError(f"at least one stage and shares in [0, 1] are needed; {found}")
    stage = np.arange(1, num_stages + 1, dtype=np.float64)
    shares = start + (end - start) * stage / num_stages
    return (num_hidden * shares).astype(np.int32)


def cls_attention(attention: Array, *, num_prefix: int = 1) -> Array:
    """How much the class token attends to each patch: the importance of MaskAlign.

    Args:
        attention: float[..., heads, T, T], after the softmax; the class token is number 0.
        num_prefix: how many tokens stand before the patches.

    Returns:
        float[..., T - num_prefix], the mean over heads; not normalised again.
    """
    chex.assert_equal(attention.shape[-1], attention.shape[-2])
    return attention[..., 0, num_prefix:].mean(-2)


def sign_of(favour: Side) -> int:
    """1 where the first are visible, -1 where they are hidden.

    Raises:
        ValueError: for an unknown side.
    """
    if favour not in ("visible", "hidden"):
        raise ValueError(f"favour must be 'visible' or 'hidden', got {favour!r}")
    return 1 if favour == "visible" else -1
