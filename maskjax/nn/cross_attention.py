"""The transformer block whose tokens look at a memory: CAE's regressor, cross-view decoders."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.attention import Allow, Attention, Implementation
from maskjax.nn.norm import LayerNorm
from maskjax.nn.variant_block import Variant, VariantMlp, layer_scaled


class CrossBlock(nn.Module):
    """h = x + s1 * attention(norm_q(x + p), norm_k(m + r), norm_v(m)), then the MLP's branch on h.

    p and r are positions, which values do not get. The defaults are the block of CAE's latent
    contextual regressor (Chen et al. 2022), whose second residual starts from the normalised value:
    g = norm2(h), result g + s2 * mlp(g).

    Attributes:
        heads: attention heads.
        mlp_hidden: hidden width of the MLP.
        variant: qkv_bias, layer_scale, activation and mlp are used.
        own_norms: keys and values have a norm each ("norm1_k", "norm1_v"); else one ("norm1_kv").
        with_queries: the tokens are seen too: the memory is followed by x, its positions by p.
        from_normed: the second residual starts from norm2(h); else from h, as in pre-norm blocks.
        residual: the first residual; False leaves x out of h (MultiMAE's decoders).
        eps: of every LayerNorm.
        dtype: of matmul operands and of the residual stream.
        implementation: of the attention, see `Attention`.
    """

    heads: int
    mlp_hidden: int
    variant: Variant = Variant()
    own_norms: bool = True
    with_queries: bool = True
    from_normed: bool = True
    residual: bool = True
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
        positions: Array | None = None,
        memory_positions: Array | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, Q, D] and memory [B, K, E] -> [B, Q, D] and {tap: activation}.

        Args:
            x: tokens.
            branch_scale, allow: as of `Block`; keys are K, or K + Q with `with_queries`.
            memory: what the tokens look at; E = D with `with_queries`.
            positions, memory_positions: [B, Q, D] and [B, K, E], added to x and memory where
                queries and keys come from; None = 0.
        """
        attention = Attention(
            self.heads,
            qkv_bias=self.variant.qkv_bias != "none",
            key_bias=self.variant.qkv_bias == "all",
            dtype=self.dtype,
            implementation=self.implementation,
            name="attn",
        )
        places = [_plus(memory, memory_positions)]
        if self.with_queries:
            places.append(_plus(x, positions))
            memory = jnp.concatenate([memory, x], axis=1)
        sources = self._memory(jnp.concatenate(places, axis=1), memory)
        branch, seen = attention(
            self._norm("norm1_q")(_plus(x, positions)), memory=sources, allow=allow
        )
        branch = layer_scaled(branch, self.variant.layer_scale, branch_scale, 0)
        x = x + branch if self.residual else branch
        normed = self._norm("norm2")(x)
        branch = VariantMlp(self.mlp_hidden, self.variant, self.dtype, name="mlp")(normed)
        branch = layer_scaled(branch, self.variant.layer_scale, branch_scale, 1)
        x = (normed if self.from_normed else x) + branch
        return x, {**seen, "block": x}

    def _memory(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """What keys and values are projected from, normalised."""
        if self.own_norms:
            return self._norm("norm1_k")(keys), self._norm("norm1_v")(values)
        norm = self._norm("norm1_kv")
        return norm(keys), norm(values)

    def _norm(self, name: str) -> LayerNorm:
        return LayerNorm(self.eps, self.dtype, name=name)


def _plus(x: Array, positions: Array | None) -> Array:
    return x if positions is None else x + positions.astype(x.dtype)
