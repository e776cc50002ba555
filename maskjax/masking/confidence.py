"""Iterative decoding: which tokens stay masked at each step, by confidence (MaskGIT, ENAT).

MaskGIT (Chang et al. 2022), ENAT (Ni et al. 2024). Counts are static, so the steps of a decoder can
be unrolled with exact shapes:

    split = confidence.all_hidden(256)
    for step, count in enumerate(confidence.hidden_counts(256, 8)):
        ...                                          # predict, sample, confidence.score
        split = confidence.reveal(score, split, num_hidden=count)
"""

import math
from collections.abc import Callable
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.split import TokenSplit

Schedule = Literal["cosine", "linear", "square", "cubic", "sqrt"]
# Progress in (0, 1] -> share that is still masked. The cosine is MaskGIT's and ENAT's choice (read
# in ENAT's code); the others are those that MaskGIT compares, from memory.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: math.cos(math.pi / 2 * progress),
    "linear": lambda progress: 1 - progress,
    "square": lambda progress: 1 - progress**2,
    "cubic": lambda progress: 1 - progress**3,
    "sqrt": lambda progress: 1 - math.sqrt(progress),
}


def hidden_counts(
    num_tokens: int, num_steps: int, schedule: Schedule = "cosine", *, strict: bool = False
) -> tuple[int, ...]:
    """How many tokens are still masked after step i: floor(N * schedule((i + 1) / S)), at last 0.

    Args:
        num_tokens: N, all masked before the first step.
        num_steps: S >= 1.
        schedule: the shape of the curve.
        strict: whether every step must reveal a token (MaskGIT's rule); without it a step of a
            long schedule may reveal none, as in ENAT.

    Returns:
        S numbers that do not rise (that fall, if strict), the last one 0.

    Raises:
        ValueError: for an unknown schedule, no step, or more strict steps than tokens.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; got {schedule!r}")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1; got {num_steps}")
    if strict and num_steps > num_tokens:
        raise ValueError(f"{num_steps} strict steps for {num_tokens} tokens; take fewer steps")
    curve = SCHEDULES[schedule]
    counts = [math.floor(num_tokens * curve((i + 1) / num_steps)) for i in range(num_steps)]
    counts[-1] = 0
    if strict:
        # At most all but one per step so far, and enough left for the steps to come.
        for i in range(num_steps):
            before = counts[i - 1] if i else num_tokens
            counts[i] = max(min(counts[i], before - 1), num_steps - 1 - i)
    return tuple(counts)


def all_hidden(num_tokens: int) -> TokenSplit:
    """The split before the first step: nothing is visible."""
    return TokenSplit(jnp.arange(num_tokens, dtype=jnp.int32), (0,))


def score(
    noise_or_key: Array, log_probs: Array, sampled: Array, *, temperature: float | Array
) -> Array:
    """Confidence in sampled tokens: their log-probability, plus temperature times Gumbel noise.

    ENAT anneals the temperature: that of the start times 1 - (i + 1) / S. The log-probability is
    the guided one, but without the sampling temperature.

    Args:
        noise_or_key: one typed PRNG key, or standard Gumbel noise float[..., N].
        log_probs: float[..., N, V].
        sampled: int[..., N] in 0..V-1.
        temperature: >= 0.

    Returns:
        float32[..., N]; what stands at visible tokens is of no account.
    """
    chex.assert_shape(sampled, log_probs.shape[:-1])
    noise = noise_of(noise_or_key, sampled.shape[-1:], jax.random.gumbel)
    own = jnp.take_along_axis(log_probs.astype(jnp.float32), sampled[..., None], -1)[..., 0]
    return own + temperature * noise


def reveal(confidence: Array, split: TokenSplit, *, num_hidden: int) -> TokenSplit:
    """One step: of the hidden tokens the `num_hidden` least confident stay hidden.

    What was visible stays visible, in the same places of `ids`, so visible sets are nested and the
    newly visible tokens are `newly_visible(split, result)`.

    Args:
        confidence: real[..., N]; NaN counts as lowest.
        split: the split before the step, ids int32[..., N].
        num_hidden: static, at most as many as are hidden.

    Returns:
        TokenSplit; the newly visible ids go by falling confidence.

    Raises:
        ValueError: if `num_hidden` is negative or exceeds what is hidden.
    """
    if not 0 <= num_hidden <= split.num_hidden:
        raise ValueError(f"num_hidden must lie in 0..{split.num_hidden} (hidden); got {num_hidden}")
    chex.assert_axis_dimension(confidence, -1, split.num_tokens)
    order = jnp.argsort(-jnp.take_along_axis(confidence, split.hidden_ids, -1), -1)
    hidden_ids = jnp.take_along_axis(split.hidden_ids, order, -1)
    ids = jnp.concatenate([split.visible_ids, hidden_ids], -1)
    return TokenSplit(ids, (split.num_tokens - num_hidden,))


def newly_visible(before: TokenSplit, after: TokenSplit) -> Array:
    """int32[..., new]: what the step from one split to the next revealed; a slice, free."""
    return after.ids[..., before.num_visible : after.num_visible]


def training_count(ratio: float | Array, num_tokens: int) -> Array:
    """int32[...]: how many tokens to mask in training, round(N * ratio) within 1..N-1.

    ENAT draws the ratio from Beta(12, 3), once for each device batch.
    """
    return jnp.clip(jnp.round(num_tokens * jnp.asarray(ratio)), 1, num_tokens - 1).astype(jnp.int32)


def hide(noise_or_key: Array, num_tokens: int, num_hidden: int | Array) -> Array:
    """Hides exactly `num_hidden` of N tokens at random; the number may be traced.

    For models that keep all tokens and attend by mask, where no shape depends on the number.

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., N]. As in ENAT's code, token i is
            hidden if entry i of the permutation that sorts the noise is below the number.
        num_tokens: N.
        num_hidden: int, int32[] or int32[...] (one for each example), in 0..N.

    Returns:
        hidden bool[..., N].

    Raises:
        ValueError: if `num_hidden` is a Python number outside 0..N.
    """
    _check(num_hidden, num_tokens)
    order = jnp.argsort(noise_of(noise_or_key, (num_tokens,)), -1)
    return order < jnp.asarray(num_hidden)[..., None]


def hide_more(noise_or_key: Array, hidden: Array, num_more: int | Array) -> Array:
    """Hides `num_more` further tokens at random, or all if fewer are visible; may be traced.

    ENAT trains the reuse of features on such a pair: the step before saw fewer tokens.

    Args:
        noise_or_key: one typed PRNG key, or noise float[..., N]; the smallest values are hidden.
        hidden: bool[..., N].
        num_more: int, int32[] or int32[...] (one for each example), >= 0.

    Returns:
        hidden bool[..., N], True wherever it was True.

    Raises:
        ValueError: if `num_more` is a Python number outside 0..N.
    """
    num_tokens = hidden.shape[-1]
    _check(num_more, num_tokens)
    noise = noise_of(noise_or_key, (num_tokens,))
    order = jnp.argsort(jnp.where(hidden, jnp.inf, noise), -1)
    return hidden | (jnp.argsort(order, -1) < jnp.asarray(num_more)[..., None])


def _check(number: int | Array, num_tokens: int):
    if isinstance(number, int) and not 0 <= number <= num_tokens:
        raise ValueError(f"the number to hide must lie in 0..{num_tokens} (tokens); got {number}")
