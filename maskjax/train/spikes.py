"""Updates of steps whose loss jumps far above its recent course are left out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any

_DECAY = 0.99  # of the running mean and variance of the loss: about the last 100 steps
_WARMUP = 100  # steps that only measure
_PATIENCE = 10  # spikes in a row, after which it is taken for the new level of the loss


class SpikeState(NamedTuple):
    """Of `skip_spikes`.

    Attributes:
        count: losses in the mean and the variance, int32[].
        mean, variance: running, float32[].
        skipped: updates left out so far, int32[].
        in_row: of them the last ones without a break, int32[].
        inner: state of the optimizer.
    """

    count: jax.Array
    mean: jax.Array
    variance: jax.Array
    skipped: jax.Array
    in_row: jax.Array
    inner: optax.OptState


def skip_spikes(
    tx: optax.GradientTransformation, sigmas: float
) -> optax.GradientTransformationExtraArgs:
    """`tx`, but no update where the loss is above running mean + `sigmas` standard deviations.

    The first 100 steps only measure. A loss that stays up for 10 steps is taken for a new level:
    it is measured anew. Losses that are NaN are not judged here (see `train.guard`). The criterion
    is ours; leaving out such steps is common practice (PaLM, Chowdhery et al. 2022, section 5.1,
    restarts before them and skips their batches).

    Args:
        tx: the optimizer.
        sigmas: above 0.

    Returns:
        A transformation whose `update` must be given `value`, the loss of the step (float32[]).
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: PyTree) -> SpikeState:
        # Arrays of their own: the step donates each of them.
        dtypes = (jnp.int32, jnp.float32, jnp.float32, jnp.int32, jnp.int32)
        return SpikeState(*(jnp.zeros((), dtype) for dtype in dtypes), tx.init(params))

    def update(updates: PyTree, state: SpikeState, params: PyTree | None = None, **extra: Any):
        if "value" not in extra:
            raise ValueError("skip_spikes: update() needs value, the loss")
        value = jnp.asarray(extra["value"], jnp.float32)
        high = value > state.mean + sigmas * jnp.sqrt(state.variance)
        spike = high & (state.count >= _WARMUP)
        accepted = spike & (state.in_row >= _PATIENCE)
        spike &= ~accepted
        new, inner = tx.update(updates, state.inner, params, **extra)
        new = jax.tree.map(lambda u: jnp.where(spike, jnp.zeros_like(u), u), new)
        inner = jax.tree.map(lambda a, b: jnp.where(spike, b, a), inner, state.inner)
        measured = _measured(state, value, anew=accepted | (state.count == 0))
        kept = (state.count, state.mean, state.variance)
        count, mean, variance = (
            jnp.where(spike, a, b) for a, b in zip(kept, measured, strict=True)
        )
        one = spike.astype(jnp.int32)
        in_row = one * (state.in_row + 1)
        return new, SpikeState(count, mean, variance, state.skipped + one, in_row, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _measured(state: SpikeState, value: jax.Array, anew: jax.Array) -> tuple[jax.Array, ...]:
    """Count, mean and variance with one more loss, or of that one alone."""
    step = value - state.mean
    mean = jnp.where(anew, value, state.mean + (1 - _DECAY) * step)
    variance = _DECAY * (state.variance + (1 - _DECAY) * jnp.square(step))
    return jnp.where(anew, 1, state.count + 1), mean, jnp.where(anew, 0.0, variance)


def spikes_skipped(opt_state: PyTree) -> jax.Array | None:
    """How many updates `skip_spikes` left out, wherever it sits; None if it is not there."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, SpikeState))
    found = [node.skipped for node in nodes if isinstance(node, SpikeState)]
    return sum(found) if found else None
