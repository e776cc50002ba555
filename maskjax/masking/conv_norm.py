"""Normalisation over visible positions: batch statistics and channel layer norm.

x [..., C] and valid bool[...] (True = visible); results are 0 where `valid` is False, and what
stands there, NaN included, reaches neither statistics nor gradients. Statistics are float32.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

AxisName = str | tuple[str, ...] | None


def masked_moments(
    x: Array, valid: Array, *, axis_name: AxisName = None
) -> tuple[Array, Array, Array]:
    """Mean and biased variance of each channel over all visible positions of the batch.

    Inside `jit` over sharded arrays the batch is the global one. Inside `shard_map` it is the
    shard's; name the mesh axes that hold the batch to get the global one.

    Args:
        x: [..., C]; two passes, so a large offset does not cancel.
        valid: bool[...].
        axis_name: mesh axes to add up over, inside `shard_map` only.

    Returns:
        mean float32[C], variance float32[C], number of visible positions float32[]; zeros where
        nothing is visible.
    """
    _check(x, valid)
    axes, selected = tuple(range(x.ndim - 1)), valid[..., None]
    count = _over_devices(valid.sum(dtype=jnp.float32), axis_name)
    divisor = jnp.maximum(count, 1)
    x = jnp.where(selected, x.astype(jnp.float32), 0)
    mean = _over_devices(x.sum(axes), axis_name) / divisor
    squares = jnp.square(jnp.where(selected, x - mean, 0)).sum(axes)
    return mean, _over_devices(squares, axis_name) / divisor, count


def masked_batch_norm(
    x: Array,
    valid: Array,
    mean: Array,
    var: Array,
    scale: Array | float = 1.0,
    bias: Array | float = 0.0,
    *,
    eps: float = 1e-5,
) -> Array:
    """(x - mean) / sqrt(var + eps) * scale + bias at visible positions, 0 elsewhere.

    Args:
        x, valid: [..., C] and bool[...].
        mean, var: float32[C]: `masked_moments` in training (SparK, Tian et al. 2023), running
            values in evaluation.
        scale, bias: [C] or numbers.
        eps: 1e-5 in torch.

    Returns:
        [..., C] in the type of `x`.
    """
    _check(x, valid)
    x32 = jnp.where(valid[..., None], x.astype(jnp.float32), 0)
    y = (x32 - mean) * (lax.rsqrt(var + eps) * scale) + bias
    return jnp.where(valid[..., None], y, 0).astype(x.dtype)


def update_running(
    running: tuple[Array, Array],
    moments: tuple[Array, Array, Array],
    *,
    momentum: float = 0.1,
) -> tuple[Array, Array]:
    """Running mean and variance after one batch, as torch's BatchNorm keeps them.

    Args:
        running: mean and variance, float32[C].
        moments: of `masked_moments`; the running variance takes the unbiased one, with the number
            of visible positions as the count. A batch that shows nothing changes nothing.
        momentum: share of the new value.
    """
    mean, var, count = moments
    unbiased = var * count / jnp.maximum(count - 1, 1)
    share = jnp.where(count > 0, momentum, 0.0)
    blend = lambda old, new: (1 - share) * old + share * new  # noqa: E731
    return blend(running[0], mean), blend(running[1], unbiased)


def masked_layer_norm(
    x: Array,
    valid: Array,
    scale: Array | float = 1.0,
    bias: Array | float = 0.0,
    *,
    eps: float = 1e-6,
) -> Array:
    """Layer norm over the channels at visible positions, 0 (not the bias) elsewhere.

    The norm of SparK's ConvNeXt; `eps` is 1e-6 there.

    Args:
        x, valid: [..., C] and bool[...].
        scale, bias: [C] or numbers.

    Returns:
        [..., C] in the type of `x`.
    """
    _check(x, valid)
    x32 = jnp.where(valid[..., None], x.astype(jnp.float32), 0)
    centred = x32 - x32.mean(-1, keepdims=True)
    y = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps) * scale + bias
    return jnp.where(valid[..., None], y, 0).astype(x.dtype)


def _over_devices(total: Array, axis_name: AxisName) -> Array:
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def _check(x: Array, valid: Array):
    chex.assert_type(valid, bool)
    chex.assert_shape(valid, x.shape[:-1])
