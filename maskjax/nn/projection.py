"""Projection heads: what stands between an encoder and a loss, and is thrown away afterwards.

The heads of Xue, Gan, Ni, Joshi, Mirzasoleiman, "Investigating the Benefits of Projection Head for
Representation Learning", ICLR 2024, and of its experiments' code.
"""

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.dense import Dense
from maskjax.nn.initializers import Initializer

Kind = Literal["none", "linear", "mlp", "mlp3", "identity", "reweight"]
KINDS = get_args(Kind)


def symmetric_relu(x: Array, shift: Array) -> Array:
    """relu(x - shift) - relu(-x - shift): the identity at shift 0, then a soft threshold."""
    return jax.nn.relu(x - shift) - jax.nn.relu(-x - shift)


def reweights(num: int, kappa: float) -> np.ndarray:
    """float32[num]: kappa^-i, the fixed weights of the coordinates i = 0, 1, ..."""
    return (kappa ** -np.arange(num, dtype=np.float64)).astype(np.float32)


class ProjectionHead(nn.Module):
    """z -> h(z), float32.

    Attributes:
        kind: "none"; "linear"; "mlp" and "mlp3": two and three linear layers with ReLU between
            them; "identity": two linear layers that start as the identity, with the symmetric ReLU
            between them; "reweight": coordinate i times kappa^-i, nothing to train.
        hidden, features: widths inside and at the end; "identity" keeps that of z.
        kappa: of "reweight"; 1.01 .. 1.05 for 2048 coordinates, 1 = no head.
        dtype: of the matmul operands.
    """

    kind: Kind = "mlp"
    hidden: int = 2048
    features: int = 2048
    kappa: float = 1.01
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """z float[B, D] -> float32[B, features], or [B, D]."""
        z = z.astype(jnp.float32)
        if self.kind == "none":
            return z
        if self.kind == "reweight":
            return z * reweights(z.shape[-1], self.kappa)
        if self.kind == "identity":
            return self._identity(z)
        hidden = {"linear": 0, "mlp": 1, "mlp3": 2}[self.kind]
        for index in range(hidden):
            z = jax.nn.relu(self._layer(index, self.hidden)(z))
        return self._layer(hidden, self.features)(z).astype(jnp.float32)

    def _identity(self, z: Array) -> Array:
        eye: Initializer = lambda key, shape, dtype=jnp.float32: jnp.eye(*shape, dtype=dtype)  # noqa: E731
        x = self._layer(0, z.shape[-1], eye)(z)
        x = symmetric_relu(x, self.param("shift", nn.initializers.zeros, ()))
        return self._layer(1, z.shape[-1], eye)(x).astype(jnp.float32)

    def _layer(self, index: int, features: int, init: Initializer | None = None) -> Dense:
        return Dense(features, dtype=self.dtype, kernel_init=init, name=f"layer{index}")
