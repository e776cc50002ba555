"""What brings a student's features to the width of its teacher's: one head for each layer."""

import dataclasses
import math
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import flops, initializers, lean
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm

Kind = Literal["linear", "norm_linear", "mlp", "mlp_norm"]
KINDS = get_args(Kind)


class FeatureHead(nn.Module):
    """Tokens -> tokens of another width, float32.

    Attributes:
        kind: "linear"; "norm_linear", a LayerNorm before it; "mlp", two layers with GELU between
            them; "mlp_norm", two layers with a LayerNorm between them.
        features: width of the result.
        hidden: width between two layers.
        eps: of the LayerNorm.
        dtype: of the matmul operands.
        fan_in: weights and biases start uniform in +-1/sqrt(inputs), PyTorch's default of a linear
            layer, instead of Xavier-uniform and 0.
    """

    kind: Kind
    features: int
    hidden: int
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32
    fan_in: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., D] -> float32[..., features]."""
        if self.kind == "norm_linear":
            x = self._norm(x)
        before = None
        if self.kind in ("mlp", "mlp_norm"):
            x = self._layer(0, self.hidden, x)(x)
            x = self._norm(x) if self.kind == "mlp_norm" else x
            before = lean.gelu if self.kind == "mlp" else None
            return self._layer(1, self.features, x, before)(x).astype(jnp.float32)
        return self._layer(0, self.features, x)(x).astype(jnp.float32)

    def _norm(self, x: Array) -> Array:
        return LayerNorm(self.eps, self.dtype, name="norm")(x)

    def _layer(self, index: int, features: int, x: Array, before=None) -> Dense:
        options = {"dtype": self.dtype, "before": before, "name": f"layer{index}"}
        if self.fan_in:
            init = initializers.symmetric_uniform(1 / math.sqrt(x.shape[-1]))
            options |= {"kernel_init": init, "bias_init": init}
        return Dense(features, **options)


@dataclasses.dataclass(frozen=True)
class FeatureHeads:
    """Equal heads; every parameter has a leading axis, one entry for each head.

    Attributes:
        head: unbound (`parent=None`).
        num: how many.
    """

    head: FeatureHead
    num: int

    def init(self, key: Array, dim: int) -> dict:
        """Parameters for tokens of width `dim`."""
        keys = jax.random.split(key, self.num)
        example = jnp.zeros((1, dim), jnp.float32)
        return jax.lax.map(lambda k: self.head.init(k, example)["params"], keys)

    def __call__(self, params: dict, index: int, x: Array) -> Array:
        """x [..., D] through head `index`, float32[..., features]."""
        # A static slice: indexing would put a scatter into the gradient.
        one = jax.tree.map(lambda leaf: jax.lax.index_in_dim(leaf, index, keepdims=False), params)
        return self.head.apply({"params": one}, x)

    def flops(self, tokens: int, dim: int) -> int:
        """Matmul FLOPs of one head over `tokens` tokens of width `dim`."""
        head = self.head
        if head.kind in ("linear", "norm_linear"):
            return flops.linear(tokens, dim, head.features)
        first = flops.linear(tokens, dim, head.hidden)
        return first + flops.linear(tokens, head.hidden, head.features)
