"""The one matmul layer: operands in `dtype`, accumulator in float32."""

import math
import string
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.initializers import Initializer, xavier_uniform


class Dense(nn.Module):
    """y = x W + b over the last axes of x; kernels may have several input and output axes.

    Attributes:
        features: output axes, an int or a tuple such as (heads, head_dim).
        num_input_axes: how many trailing axes of x are contracted.
        use_bias: adds a bias of shape `features`.
        dtype: of the operands and of the result; parameters and accumulators are float32.
        kernel_init, bias_init: default Xavier-uniform over the flattened matrix, and zeros.
    """

    features: int | Sequence[int]
    num_input_axes: int = 1
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., *inputs] -> [..., *features]."""
        features = (self.features,) if isinstance(self.features, int) else tuple(self.features)
        inputs = x.shape[x.ndim - self.num_input_axes :]
        init = self.kernel_init or xavier_uniform(math.prod(inputs), math.prod(features))
        kernel = self.param("kernel", init, (*inputs, *features))
        ins, outs = string.ascii_lowercase[: len(inputs)], string.ascii_uppercase[: len(features)]
        y = jnp.einsum(
            f"...{ins},{ins}{outs}->...{outs}",
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, features)
        return y.astype(self.dtype)
