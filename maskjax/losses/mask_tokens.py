"""How mask tokens take part in attention: the losses of MTO, as we reconstruct them.

Choi, Lee, Joung, Park, Kim, Min, "Emerging Property of Masked Token for Effective Pre-training",
ECCV 2024. The paper's equations are not known to us: these are chosen to meet its stated aims (mask
tokens unlike all visible tokens in early layers, few and relevant sources in late ones, visible
tokens that ignore them). Every value is per token; means are the caller's.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

EPS = 1e-8
LN_EPS = 1e-6


def affinity(x: Array, sources: Array | None = None) -> Array:
    """Cosine of layer-normalised tokens: float[..., Q, D], float[..., N, D] -> float32[..., Q, N].

    Without `sources`, of all pairs of x.
    """
    normed = _direction(x)
    others = normed if sources is None else _direction(sources)
    return jnp.einsum("...id,...jd->...ij", normed, others)


def _direction(x: Array) -> Array:
    """float32[..., D] of length 1, after a LayerNorm without scale and offset."""
    x = x.astype(jnp.float32)
    centred = x - x.mean(-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + LN_EPS)
    return normed / jnp.sqrt(jnp.square(normed).sum(-1, keepdims=True) + EPS**2)


def evenness(cosine: Array, visible: Array, temperature: float = 0.1) -> Array:
    """H: how evenly a token is related to the visible ones, float32[..., Q] in [0, 1].

    The entropy of softmax(cosine / t) over the visible tokens by its largest value: 1 = no visible
    token stands out, 0 = one does alone.

    Args:
        cosine: float[..., Q, N], see `affinity`.
        visible: bool[..., N]; at least two are True.
        temperature: t.
    """
    chex.assert_equal_shape((cosine[..., 0, :], visible))
    keys = visible[..., None, :]
    logits = jnp.where(keys, cosine / temperature, -jnp.inf)
    share = jax.nn.softmax(logits, axis=-1)
    entropy = -jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0).sum(-1)
    return entropy / jnp.log(visible.sum(-1, keepdims=True))


def closeness(cosine: Array, visible: Array) -> Array:
    """Mean over the visible tokens of the positive part of the cosine, float32[..., Q]."""
    positive = jnp.where(visible[..., None, :], jnp.maximum(cosine, 0), 0)
    return positive.sum(-1) / visible.sum(-1, keepdims=True)


def heterogeneity(x: Array, visible: Array, temperature: float = 0.1) -> Array:
    """H * (1 - closeness) of every token, float32[..., N]; the mean over mask tokens is Het."""
    cosine = affinity(x)
    return evenness(cosine, visible, temperature) * (1 - closeness(cosine, visible))


def singularity_loss(
    x: Array, visible: Array, temperature: float = 0.1, sources: Array | None = None
) -> Array:
    """L_e of every token, float32[..., Q]; mean over mask tokens of early layers.

    (1 - H) + closeness: the token should be like no visible one. Those keep still (no gradient).

    Args:
        x: float[..., Q, D], tokens of a layer, positions added.
        visible: bool[..., N].
        temperature: t of H.
        sources: float[..., N, D], the tokens that `visible` is about, where x holds mask tokens
            only; None = x.
    """
    if sources is None:
        x = jnp.where(visible[..., None], jax.lax.stop_gradient(x), x)
    else:
        sources = jax.lax.stop_gradient(sources)
    cosine = affinity(x, sources)
    return 1 - evenness(cosine, visible, temperature) + closeness(cosine, visible)


def restoration_loss(attention: Array, visible: Array) -> Array:
    """L_r of every query, float32[..., H, Q]; mean over heads and mask tokens of late layers.

    The entropy of its attention to visible tokens, by the largest value: few sources, not all.

    Args:
        attention: float[..., H, Q, N], after the softmax.
        visible: bool[..., N].
    """
    own = jnp.where(visible[..., None, None, :], attention.astype(jnp.float32), 0)
    share = own / (own.sum(-1, keepdims=True) + EPS)
    entropy = -(share * jnp.log(share + EPS)).sum(-1)
    return entropy / jnp.log(visible.sum(-1))[..., None, None]


def sparsity_loss(attention: Array, hidden: Array, early: Array | bool) -> Array:
    """L_spa of every query, float32[..., H, N]; mean over heads and visible tokens of all layers.

    Attention to mask tokens (early layers only) + 0.1 * entropy of the row by log N.

    Args:
        attention: float[..., H, N, N], after the softmax.
        hidden: bool[..., N], the mask tokens.
        early: whether the layer is an early one; may be traced.
    """
    attention = attention.astype(jnp.float32)
    spent = jnp.where(hidden[..., None, None, :], attention, 0).sum(-1)
    entropy = -(attention * jnp.log(attention + EPS)).sum(-1)
    return jnp.where(early, spent, 0) + 0.1 * entropy / jnp.log(attention.shape[-1])


def recalibration(visible: Array, hidden: Array, strength: Array | float) -> Array:
    """Bias float32[..., N, N]: `strength` (<= 0) from visible queries to mask tokens, else 0."""
    return jnp.where(visible[..., :, None] & hidden[..., None, :], jnp.float32(strength), 0)
