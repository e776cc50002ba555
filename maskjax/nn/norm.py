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
