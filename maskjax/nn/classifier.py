"""What reads the tokens of an encoder to name classes: pooling, norm, hidden layer, logits."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import initializers
from maskjax.nn.attention import Attention
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm, PlainBatchNorm

POOLS = ("gap", "cls", "mean", "attentive")


class AttentivePool(nn.Module):
    """A learned query looks at all tokens once: no MLP, no residual (CAE's attentive probe).

    Query, keys and values have a LayerNorm each.

    Attributes:
        heads: of the attention.
        eps: of the LayerNorms.
        dtype: of the matmul operands.
    """

    heads: int
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """[B, N, D] -> float32[B, D]."""
        query = self.param("query", initializers.token, tokens.shape[-1:])
        query = jnp.broadcast_to(query.astype(self.dtype), (len(tokens), 1, tokens.shape[-1]))
        names = ("norm_q", "norm_k", "norm_v")
        sources = zip(names, (query, tokens, tokens), strict=True)
        asked, keys, values = (LayerNorm(self.eps, self.dtype, name=n)(x) for n, x in sources)
        attention = Attention(self.heads, dtype=self.dtype, name="attn")
        return attention(asked, memory=(keys, values))[0][:, 0].astype(jnp.float32)


class ClassifierHead(nn.Module):
    """Tokens -> features and logits.

    Attributes:
        num_classes: K.
        first: tokens that stand in front of those of the image.
        pool: "gap" (mean of the image's tokens, then a norm "fc_norm" of its own), "mean" (without
            it), "cls" (the first token) or "attentive" (see `AttentivePool`, over all tokens).
        batch_norm: BatchNorm without scale and offset in front of the last layer (MAE's probe).
        hidden: width of a hidden layer with GELU; 0 = none.
        std: of the last layer's first weights, which are normal; its bias starts at 0.
        heads: of attentive pooling.
        eps: of the LayerNorms.
        dtype: of the matmul operands in attentive pooling and the hidden layer.
    """

    num_classes: int
    first: int
    pool: Literal["gap", "cls", "mean", "attentive"] = "gap"
    batch_norm: bool = False
    hidden: int = 0
    std: float = 2e-5
    heads: int = 12
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array, *, train: bool = False) -> tuple[Array, Array]:
        """Tokens [B, first + N, D] -> float32 features [B, F] of the last layer, logits [B, K]."""
        features = self._pooled(tokens)
        if self.hidden:
            hidden = Dense(self.hidden, dtype=self.dtype, name="hidden")(features)
            features = jax.nn.gelu(hidden.astype(jnp.float32), approximate=False)
        if self.batch_norm:
            features = PlainBatchNorm(name="batch_norm")(features, train=train)
        init = nn.initializers.normal(self.std)
        return features, Dense(self.num_classes, kernel_init=init, name="head")(features)

    def _pooled(self, tokens: Array) -> Array:
        if self.pool == "cls":
            return tokens[:, 0].astype(jnp.float32)
        if self.pool == "attentive":
            return AttentivePool(self.heads, self.eps, self.dtype, name="attentive_pool")(tokens)
        mean = tokens[:, self.first :].astype(jnp.float32).mean(1)
        return LayerNorm(self.eps, name="fc_norm")(mean) if self.pool == "gap" else mean
