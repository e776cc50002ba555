"""The one matmul layer: operands in `dtype`, accumulator in float32."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import lean, tract
from maskjax.nn.initializers import Initializer, xavier_uniform


class Dense(nn.Module):
    """y = x W + b over the last axes of x; kernels may have several input and output axes.

    Attributes:
        features: output axes, an int or a tuple such as (heads, head_dim).
        num_input_axes: how many trailing axes of x are contracted.
        use_bias: adds a bias of shape `features`.
        dtype: of the operands and of the result; parameters and accumulators are float32.
        kernel_init, bias_init: default Xavier-uniform over the flattened matrix, and zeros.
        before: elementwise function that makes x of what is given, in float32 (an activation); its
            result is not kept for the backward pass.
        first: the first layer of a network, which may have TrAct's gradient (see `nn.tract`).
        keep: whether `remat="dots"` keeps the result, see `Stack`.
    """

    features: int | Sequence[int]
    num_input_axes: int = 1
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros
    before: lean.Before | None = None
    first: bool = False
    keep: bool = True

    @nn.compact
    def __call__(self, *x: Array) -> Array:
        """x [..., *inputs] -> [..., *features]; several x only for a `before` that takes them."""
        features = (self.features,) if isinstance(self.features, int) else tuple(self.features)
        inputs = x[0].shape[x[0].ndim - self.num_input_axes :]
        init = self.kernel_init or xavier_uniform(math.prod(inputs), math.prod(features))
        kernel = self.param("kernel", init, (*inputs, *features))
        bias = self.param("bias", self.bias_init, features) if self.use_bias else None
        given = tuple(a.astype(self.dtype) for a in x)
        options = {
            "num_input_axes": self.num_input_axes,
            "before": self.before,
            "keep": self.keep,
        }
        if not self.first:
            return lean.dense(given, kernel, bias, **options)
        layer = lambda x, *rest: lean.dense((x,), *rest, **options)  # noqa: E731
        unfold = lambda x: x.reshape(-1, *inputs)  # noqa: E731
        return tract.apply(layer, unfold, *given, kernel, bias)
