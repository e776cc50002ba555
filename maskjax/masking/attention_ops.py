"""Attention under masks, as pure functions on scores: before, in and after the softmax.

    weights = softmax(scores * factor + bias, where allow) * gain

All four arrays broadcast to the scores [..., Q, K]; `maskjax.masking.attend` makes them.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Empty = Literal["all", "zero"]
# Not -inf: a row of -inf has no softmax, and its gradient is NaN.
BLOCKED = float(jnp.finfo(jnp.float32).min)


def unblock_empty(allow: Array) -> Array:
    """allow bool[..., Q, K] -> the same, but a query that may attend to nothing attends to all.

    The rule of masked attention in Mask2Former (Cheng et al. 2022). Any kernel may serve the
    result. With padding: `unblock_empty(allow) & valid_keys(valid)`.
    """
    chex.assert_type(allow, bool)
    return allow | ~allow.any(-1, keepdims=True)


def key_bias(share: Array, *, floor: float = 1e-6) -> Array:
    """bias float32[..., 1, K] = log(share) for keys that are only partly valid.

    A key of share s weighs s times what it would weigh; one of share 0 weighs nothing (SuperInpaint
    2023, where the published text gives the role and this formula is our reading).

    Args:
        share: float[..., K] in [0, 1].
        floor: the least share above 0.
    """
    log = jnp.log(jnp.maximum(share.astype(jnp.float32), floor))
    return jnp.where(share > 0, log, BLOCKED)[..., None, :]


def logits(
    scores: Array,
    *,
    factor: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    allow: Array | None = None,
) -> Array:
    """scores * factor + bias where allowed, else `BLOCKED`: what the softmax sees, float32.

    The arguments are those of `weights`, but a query that `allow` leaves no key gets equal weights,
    and any order of the axes will do.
    """
    found = scores.astype(jnp.float32)
    if factor is not None:
        found = found * factor
    if bias is not None:
        found = jnp.maximum(found + bias, BLOCKED)
    return found if allow is None else jnp.where(allow, found, BLOCKED)


def weights(
    scores: Array,
    *,
    factor: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    allow: Array | None = None,
    gain: ArrayLike | None = None,
    empty: Empty = "all",
) -> Array:
    """softmax over keys of scores * factor + bias where allowed, * gain: float32[..., Q, K].

    Args:
        scores: [..., Q, K], scaled.
        factor: multiplied before the softmax (Gaussian mixture masks); a factor near 0 drives a
            score to 0, which is average attention, not none.
        bias: added before the softmax; -inf blocks, and a row that it blocks as a whole gets equal
            weights.
        allow: bool, True = attend.
        gain: multiplied after the softmax, without renormalisation (iLLaMA's soft causal mask).
        empty: what a query does that `allow` leaves no key. "all": it attends to all, padding
            included, see `unblock_empty`; "zero": its weights are 0.

    Raises:
        ValueError: for an unknown `empty`.
    """
    if empty not in ("all", "zero"):
        raise ValueError(f"empty must be 'all' or 'zero', got {empty!r}")
    open_ = None if allow is None else unblock_empty(allow)
    found = jax.nn.softmax(logits(scores, factor=factor, bias=bias, allow=open_), axis=-1)
    if allow is not None and empty == "zero":
        found = jnp.where(allow.any(-1, keepdims=True), found, 0)
    return found if gain is None else found * gain


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    factor: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    allow: Array | None = None,
    gain: ArrayLike | None = None,
    empty: Empty = "all",
    scale: float | None = None,
) -> Array:
    """Attention under masks; the masks are those of `weights`.

    Args:
        query: [..., Q, d], heads among the leading axes.
        key, value: [..., K, d] and [..., K, e].
        scale: of the scores, default d ** -0.5.

    Returns:
        [..., Q, e] in the type of `value`; scores, softmax and accumulators are float32.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    product = {"preferred_element_type": jnp.float32}
    scores = jnp.einsum("...qd,...kd->...qk", query, key, **product) * scale
    found = weights(scores, factor=factor, bias=bias, allow=allow, gain=gain, empty=empty)
    mixed = jnp.einsum("...qk,...ke->...qe", found.astype(value.dtype), value, **product)
    return mixed.astype(value.dtype)


def key_masked_attention(
    query: Array,
    key: Array,
    value: Array,
    key_keep: Array,
    *,
    mode: Literal["zero_key", "neg_inf"] = "zero_key",
    threshold: float = 0.5,
) -> Array:
    """Attention with some keys masked, as in DesignEdit (2024; object removal without training).

    Args:
        query: [..., Q, d].
        key, value: [..., K, d] and [..., K, e].
        key_keep: float (or bool)[..., K] in [0, 1], 1 = keep; fractions where a mask was resized.
        mode: "zero_key", the official one: the key is multiplied by `key_keep`, so a masked key has
            score 0 with every query and its value still counts. With a projection without bias
            this is the same as multiplying the tokens that the key projection sees. "neg_inf":
            keys below `threshold` are forbidden, and what stands there, value included, is not seen
            (a query left with nothing attends to all).
        threshold: of "neg_inf"; our choice.

    Returns:
        [..., Q, e].

    Raises:
        ValueError: for an unknown mode.
    """
    if mode == "zero_key":
        return attend(query, key * key_keep[..., None].astype(key.dtype), value)
    if mode == "neg_inf":
        keep = key_keep.astype(jnp.float32) >= threshold
        return attend(query, key, value, allow=keep[..., None, :])
    raise ValueError(f"mode must be 'zero_key' or 'neg_inf', got {mode!r}")
