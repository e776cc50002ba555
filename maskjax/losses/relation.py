"""How tokens relate to each other, head by head, and how far two networks differ in that."""

from typing import Literal, get_args

import chex
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from maskjax.losses.feature import feature_error

Distance = Literal["smooth_l1", "l1", "l2", "kl"]
RELATION_DISTANCES = get_args(Distance)


def relations(left: Array, right: Array, heads: int = 0) -> Array:
    """left right^T / sqrt(d) of each head, before any softmax: float32[..., R, N, M].

    Args:
        left, right: float[..., H, N, d] and [..., H, M, d], queries and keys, or values twice.
        heads: R; all heads together are cut into so many (MiniLM v2, Wang et al. 2021), so that
            networks of other heads can be compared; 0 = H, as they are.

    Raises:
        ValueError: if the heads do not divide the width.
    """
    chex.assert_equal_shape_suffix((left, right), 1)
    if heads and heads != left.shape[-3]:
        left, right = (_regrouped(x, heads) for x in (left, right))
    scores = jnp.einsum("...nd,...md->...nm", left, right, preferred_element_type=jnp.float32)
    return scores * left.shape[-1] ** -0.5


def _regrouped(x: Array, heads: int) -> Array:
    width = x.shape[-3] * x.shape[-1]
    if width % heads:
        raise ValueError(f"{heads} relation heads do not divide the width {width}")
    return rearrange(rearrange(x, "... h n d -> ... n (h d)"), "... n (r d) -> ... r n d", r=heads)


def relation_error(prediction: Array, target: Array, distance: Distance = "smooth_l1") -> Array:
    """How far relations [..., N, M] are from those of a teacher: float32[..., N], mean over M.

    Args:
        prediction, target: as `relations` gives them; the caller stops the target's gradient.
        distance: "smooth_l1", "l1" or "l2" (see `feature_error`), or "kl", the divergence of the
            softmax over M from the target's, in nats (a sum over M, not a mean).

    Raises:
        ValueError: for an unknown distance.
    """
    if distance != "kl":
        return feature_error(prediction, target, distance)
    own, wanted = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (prediction, target))
    return (jnp.exp(wanted) * (wanted - own)).sum(-1)
