"""Pooling by a small post-norm transformer: the output at the place of one extra token (Selfie)."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import initializers, lean
from maskjax.nn.attention import Attention
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm


class PostNormBlock(nn.Module):
    """norm1(x + attention(x)), then norm2(x + fc2(gelu(fc1(x)))) (Vaswani et al. 2017).

    Attributes:
        heads: attention heads.
        hidden: width of the MLP.
        eps: of the LayerNorms; 1e-5 in torch's TransformerEncoderLayer.
        dtype: of the matmul operands.
    """

    heads: int
    hidden: int
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, keep: Array | None = None) -> Array:
        """x [B, T, D] -> [B, T, D].

        Args:
            x: tokens.
            keep: float32[B, 2, T, D], what the two branches are multiplied by (dropout); None = 1.
        """
        branch, _ = Attention(self.heads, dtype=self.dtype, name="attn")(x)
        x = LayerNorm(self.eps, self.dtype, name="norm1")(x + _kept(branch, keep, 0))
        hidden = Dense(self.hidden, dtype=self.dtype, name="fc1")(x)
        branch = Dense(x.shape[-1], dtype=self.dtype, before=lean.gelu, name="fc2")(hidden)
        return LayerNorm(self.eps, self.dtype, name="norm2")(x + _kept(branch, keep, 1))


def _kept(branch: Array, keep: Array | None, index: int) -> Array:
    return branch if keep is None else branch * keep[:, index].astype(branch.dtype)


class AttentionPool(nn.Module):
    """[u0, x_1 .. x_n] through the blocks and a norm; the result is what stands at u0's place.

    Attributes:
        layers, heads, hidden: of the blocks.
        learned: u0 is a parameter; else zeros.
        eps: of every LayerNorm.
        dtype: of the matmul operands.
    """

    layers: int = 3
    heads: int = 32
    hidden: int = 640
    learned: bool = True
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, keep: Array | None = None) -> Array:
        """x float[B, n, D] -> float32[B, D]; keep float32[B, layers, 2, 1 + n, D] as of a block."""
        dim = x.shape[-1]
        first = self.param("u0", initializers.token, (dim,)) if self.learned else jnp.zeros(dim)
        first = jnp.broadcast_to(first.astype(x.dtype), (x.shape[0], 1, dim))
        x = jnp.concatenate([first, x], axis=1)
        for i in range(self.layers):
            block = PostNormBlock(self.heads, self.hidden, self.eps, self.dtype, name=f"layers_{i}")
            x = block(x, None if keep is None else keep[:, i])
        return LayerNorm(self.eps, name="norm")(x[:, 0])
