"""The pre-norm transformer block of ViT (Dosovitskiy et al. 2021) and its MLP."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import lean
from maskjax.nn.attention import Allow, Attention, Implementation
from maskjax.nn.dense import Dense
from maskjax.nn.initializers import Initializer
from maskjax.nn.norm import LayerNorm


class Mlp(nn.Module):
    """fc2(gelu(fc1(x))) with the exact (erf) GELU.

    Attributes:
        hidden: width between the two layers.
        dtype: of the matmul operands.
        kernel_init: see `Dense`.
    """

    hidden: int
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., D] -> [..., D]."""
        options = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        hidden = Dense(self.hidden, **options, name="fc1")(x)
        return Dense(x.shape[-1], before=lean.gelu, **options, name="fc2")(hidden)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
        heads: attention heads.
        mlp_hidden: hidden width of the MLP.
        eps: of the two LayerNorms.
        dtype: of matmul operands and of the residual stream.
        implementation: of the attention, see `Attention`.
    """

    heads: int
    mlp_hidden: int
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "einsum"

    @nn.compact
    def __call__(
        self,
        x: Array,
        branch_scale: Array | None = None,
        allow: Allow | None = None,
        bias: Array | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] and {tap: activation}.

        Args:
            x: tokens.
            branch_scale: float32[2, B], what each example's two branches are multiplied by
                (drop-path: 0 or 1 / keep); None = 1.
            allow, bias: as of `Attention`.
        """
        attention = Attention(
            self.heads, dtype=self.dtype, implementation=self.implementation, name="attn"
        )
        branch, seen = attention(self._norm("norm1")(x), allow=allow, bias=bias)
        x = x + scale_branch(branch, branch_scale, 0)
        mlp = Mlp(self.mlp_hidden, self.dtype, name="mlp")
        x = x + scale_branch(mlp(self._norm("norm2")(x)), branch_scale, 1)
        return x, {**seen, "block": x}

    def _norm(self, name: str) -> LayerNorm:
        return LayerNorm(self.eps, self.dtype, name=name)


def scale_branch(branch: Array, scale: Array | None, index: int) -> Array:
    """Branch [B, N, D] times scale[index] of each example; scale float32[2, B], None = 1."""
    if scale is None:
        return branch
    return branch * scale[index].astype(branch.dtype)[:, None, None]


def drop_scales(noise: Array, rates: float | tuple[float, float]) -> Array:
    """What the branches of each block are multiplied by: 0, or 1 / (1 - rate) (Huang et al. 2016).

    Args:
        noise: float32[B, depth, ...] in [0, 1).
        rates: of dropping in the first and the last block, and linear between them; one number = of
            the last, the first has 0.

    Returns:
        float32[B, depth, ...].
    """
    ends = rates if isinstance(rates, tuple) else (0, rates)
    depth = noise.shape[1]
    rate = np.linspace(*ends, depth, dtype=np.float32).reshape(depth, *[1] * (noise.ndim - 2))
    return jnp.where(noise < rate, 0, 1 / (1 - rate))
