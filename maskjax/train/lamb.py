"""LAMB: Adam's direction, as long as the weights of each tensor; in the form of timm.

You et al. 2020, "Large batch optimization for deep learning", arXiv:1904.00962.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from maskjax.train.groups import STACKED
from maskjax.train.lars import scale_by_slice_trust_ratio

PyTree = Any


def scale_by_lamb(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    decay_mask: Callable[[PyTree], PyTree],
    always_adapt: bool = False,
    bias_correction: bool = True,
    stacked: str = STACKED,
) -> optax.GradientTransformation:
    """LAMB up to the learning rate: `u = adam(g) + wd * p`, then `u *= |p| / |u|`.

    The factor is for tensors that are decayed (1 if either norm is 0). A stacked leaf stands for L
    tensors, each with its own.

    Args:
        b1, b2, eps: of Adam; eps 1e-6 in timm.
        weight_decay: wd, a number or a function of the step; 0 = no factors either.
        decay_mask: params -> tree of bool, what is decayed.
        always_adapt: the factor is for all tensors.
        bias_correction: of Adam's moments.
        stacked: regex of paths whose leaves have a leading depth axis.
    """
    adam = optax.scale_by_adam(b1, b2, eps) if bias_correction else scale_by_raw_adam(b1, b2, eps)
    decays = callable(weight_decay) or weight_decay > 0

    def adapted(tree: PyTree) -> PyTree:
        mask = decay_mask(tree)
        return jax.tree.map(lambda decayed: always_adapt or (decays and decayed), mask)

    return optax.chain(
        adam,
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        scale_by_slice_trust_ratio(1.0, stacked, adapted=adapted),
    )


class RawAdamState(NamedTuple):
    """First and second moments."""

    mu: PyTree
    nu: PyTree


def scale_by_raw_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam whose moments are not corrected for having started at 0."""

    def init(params: PyTree) -> RawAdamState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
        return RawAdamState(zeros(), zeros())

    def update(updates: PyTree, state: RawAdamState, params: PyTree | None = None):
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu), RawAdamState(mu, nu)

    return optax.GradientTransformation(init, update)
