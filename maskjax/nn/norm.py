"""Normalisation layers; statistics are float32 whatever the compute type."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import lean


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba et al. 2016).

    Attributes:
        eps: added to the variance; 1e-6 in MAE and timm's ViT (torch's default is 1e-5).
        dtype: of the result.
    """

    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., D] -> [..., D]."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return lean.layer_norm(x, scale, bias, eps=self.eps, dtype=self.dtype)


def batch_norm(x: Array, mean: Array, var: Array, *, eps: float = 1e-6) -> Array:
    """(x - mean) / sqrt(var + eps): batch normalisation without scale and offset.

    MAE's linear probe puts it between the frozen features and the classifier.

    Args:
        x: float[B, D].
        mean, var: float32[D], of the batch in training, running values in evaluation.
        eps: 1e-6 in MAE's probe.
    """
    return (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + eps)


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over the batch, float32[D] each, of x float[B, D]."""
    x = x.astype(jnp.float32)
    return x.mean(0), x.var(0)


def update_running_moments(
    running: tuple[Array, Array], moments: tuple[Array, Array], num: int, *, momentum: float = 0.1
) -> tuple[Array, Array]:
    """Running mean and variance after one batch of `num` rows, as torch's BatchNorm1d keeps them.

    `moments` are those of `batch_moments`; the running variance takes the unbiased one.
    """
    mean, var = moments
    unbiased = var * (num / max(num - 1, 1))
    blend = lambda old, new: (1 - momentum) * old + momentum * new  # noqa: E731
    return blend(running[0], mean), blend(running[1], unbiased)


class PlainBatchNorm(nn.Module):
    """`batch_norm`, with running mean and var in the collection "batch_stats".

    Attributes:
        eps: 1e-6 in MAE's probe.
        momentum: share of the new batch in the running statistics.
    """

    eps: float = 1e-6
    momentum: float = 0.1

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """x [B, D] -> float32[B, D], by the statistics of the batch, or by the running ones."""
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:])
        var = self.variable("batch_stats", "var", jnp.ones, x.shape[-1:])
        running = (mean.value, var.value)
        if not train:
            return batch_norm(x, *running, eps=self.eps)
        moments = batch_moments(x)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            new = update_running_moments(running, moments, len(x), momentum=self.momentum)
            mean.value, var.value = new
        return batch_norm(x, *moments, eps=self.eps)
