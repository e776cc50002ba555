"""LARS, layer-wise adaptive rate scaling, in the form of MAE's linear probe.

You, Gitman and Ginsburg 2017, "Large batch training of convolutional networks", arXiv:1708.03888.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from maskjax.train.groups import NO_DECAY, STACKED, map_with_name

PyTree = Any


def lars(
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    trust_coefficient: float = 1e-3,
) -> optax.GradientTransformation:
    """`scale_by_lars` and the step `p -= lr * mu`: the whole optimizer, for use on its own."""
    return optax.chain(
        scale_by_lars(
            weight_decay=weight_decay, momentum=momentum, trust_coefficient=trust_coefficient
        ),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_lars(
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    trust_coefficient: float = 1e-3,
    decay_mask: Callable[[PyTree], PyTree] | None = None,
    stacked: str = STACKED,
) -> optax.GradientTransformation:
    """LARS up to the learning rate, which comes after the momentum.

    For every adapted tensor `g += wd * p`, then `g *= trust * |p| / |g|` (factor 1 if either norm
    is 0); for all tensors `mu = momentum * mu + g`. Adapted are tensors with more than one axis
    that are no bias or norm scale. A stacked leaf stands for L tensors: its leading axis is not
    counted, and each slice has its own ratio.

    Args:
        weight_decay: wd, added to the gradient, so it is coupled with the ratio (unlike AdamW's).
        momentum: share of the old buffer that is kept.
        trust_coefficient: "eta" of the paper.
        decay_mask: params -> tree of bool, to exempt further leaves from `weight_decay`.
        stacked: regex of paths whose leaves have a leading depth axis.
    """

    def mask(tree: PyTree) -> PyTree:
        adapted = map_with_name(lambda name, leaf: _is_adapted(name, leaf, stacked), tree)
        wanted = decay_mask(tree) if decay_mask else adapted
        return jax.tree.map(lambda a, w: a and w, adapted, wanted)

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=mask),
        scale_by_slice_trust_ratio(trust_coefficient, stacked),
        optax.trace(decay=momentum, accumulator_dtype=jnp.float32),
    )


def scale_by_slice_trust_ratio(
    trust_coefficient: float,
    stacked: str = STACKED,
    adapted: Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """`g *= trust * |p| / |g|`, L2 norms over each tensor or over each slice of a stacked leaf.

    `adapted`: params -> tree of bool, which ones; default those of `scale_by_lars`.
    `optax.scale_by_trust_ratio` takes one norm over the whole leaf, which would tie the blocks of a
    stack together.
    """

    usual = lambda tree: map_with_name(lambda n, leaf: _is_adapted(n, leaf, stacked), tree)  # noqa: E731

    def scale(name: str, g: jax.Array, p: jax.Array, wanted: bool) -> jax.Array:
        if not wanted:
            return g
        axes = tuple(range(_leading(name, stacked), p.ndim))
        p_norm = jnp.sqrt(jnp.sum(p**2, axes, keepdims=True))
        g_norm = jnp.sqrt(jnp.sum(g**2, axes, keepdims=True))
        usable = (p_norm > 0) & (g_norm > 0)
        # The inner where keeps 0 / 0 out of the branch that is not taken.
        ratio = trust_coefficient * p_norm / jnp.where(usable, g_norm, 1.0)
        return g * jnp.where(usable, ratio, 1.0)

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree | None = None):
        if params is None:
            raise ValueError("scale_by_slice_trust_ratio: update() needs params")
        return map_with_name(scale, updates, params, (adapted or usual)(params)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _leading(name: str, stacked: str) -> int:
    """Number of leading axes that count tensors instead of belonging to one."""
    return int(re.search(stacked, name) is not None)


def _is_adapted(name: str, leaf: Any, stacked: str) -> bool:
    # The name is asked as well as the rank: a query bias is [heads, head_dim] here and 1-D in other
    # codebases.
    return leaf.ndim - _leading(name, stacked) > 1 and not re.search(NO_DECAY, name)
