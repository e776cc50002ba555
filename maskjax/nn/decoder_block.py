"""The transformer's decoder block (Vaswani et al. 2017), pre-norm: tokens that look at a memory."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.attention import Allow, Attention, Implementation
from maskjax.nn.block import Mlp, scale_branch
from maskjax.nn.norm import LayerNorm


class DecoderBlock(nn.Module):
    """x + self-attention(norm1(x)), + attention from norm2(x) to norm_y(memory), + mlp(norm3(x)).

    CroCo's block (Weinzaepfel et al. 2022): the memory has a norm of its own in every block and is
    not changed.

    Attributes:
        heads: attention heads, of both attentions.
        mlp_hidden: hidden width of the MLP.
        eps: of every LayerNorm.
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
        branch_scale: Array | None,
        allow: Allow | None,
        memory: Array,
        rotary: Array | None = None,
        memory_rotary: Array | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, Q, D] and memory [B, K, E] -> [B, Q, D] and {tap: activation}.

        Args:
            x: tokens.
            branch_scale: float32[3, B], see `scale_branch`; None = 1.
            allow: of the self-attention, as of `Attention`.
            memory: what the tokens look at.
            rotary, memory_rotary: tables of `nn.rotary` for x and memory; None = none.
        """
        turns = None if rotary is None else (rotary, rotary)
        branch, seen = self._attention("attn")(self._norm("norm1")(x), allow=allow, rotary=turns)
        x = x + scale_branch(branch, branch_scale, 0)
        turns = None if rotary is None else (rotary, memory_rotary)
        memory = self._norm("norm_y")(memory)
        branch, _ = self._attention("cross_attn")(
            self._norm("norm2")(x), memory=(memory, memory), rotary=turns
        )
        x = x + scale_branch(branch, branch_scale, 1)
        mlp = Mlp(self.mlp_hidden, self.dtype, name="mlp")
        x = x + scale_branch(mlp(self._norm("norm3")(x)), branch_scale, 2)
        return x, {**seen, "block": x}

    def _attention(self, name: str) -> Attention:
        return Attention(
            self.heads, dtype=self.dtype, implementation=self.implementation, name=name
        )

    def _norm(self, name: str) -> LayerNorm:
        return LayerNorm(self.eps, self.dtype, name=name)
