"""A classifier of point clouds: Point-M2AE's encoder with local attention, pooling, two layers.

Zhang et al. 2022 and 2023, with the details of the official fine-tuning code of I2P-MAE.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.masked_conv import MaskedBatchNorm
from maskjax.nn.norm import LayerNorm
from maskjax.nn.point_encoder import EPS, PointEncoder, PointSize, linear
from maskjax.nn.point_ops import PointLevel
from maskjax.nn.vit import Compute

Pool = Literal["add", "concat"]
POOLS = ("add", "concat")
NUM_HIDDEN = 2


class PointHead(nn.Module):
    """Features -> logits: two layers with batch norm, ReLU and dropout, then a linear one.

    Attributes:
        num_classes: K.
        hidden: width of the two layers.
        dropout: share of their values that are 0 in training.
        dtype: of the matmul operands.
    """

    num_classes: int
    hidden: int = 256
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, noise: Array | None = None) -> Array:
        """float32[B, F] -> float32[B, K]; noise float32[B, 2, hidden] in [0, 1) for dropout."""
        for i in range(NUM_HIDDEN):
            x = linear(x, self.hidden, f"fc{i}", dtype=self.dtype)
            x = jax.nn.relu(MaskedBatchNorm(EPS, name=f"norm{i}")(x, train=train))
            if noise is not None:
                x = jnp.where(noise[:, i] < self.dropout, 0, x / (1 - self.dropout))
        return linear(x, self.num_classes, f"fc{NUM_HIDDEN}")


class PointClassifier(nn.Module):
    """encoder, norm, head.

    Attributes:
        size, drop_path, radius, compute: of `PointEncoder`.
        num_classes, hidden, dropout: of `PointHead`.
        pool: mean and maximum of the coarsest tokens, added or side by side.
    """

    size: PointSize
    num_classes: int
    radius: tuple[float, ...]
    drop_path: float = 0.0
    pool: Pool = "add"
    hidden: int = 256
    dropout: float = 0.5
    compute: Compute = Compute()

    def setup(self):
        options = (self.drop_path, self.radius, self.compute)
        self.encoder = PointEncoder(self.size, *options, norms=False)
        self.norm = LayerNorm(EPS)
        self.head = PointHead(self.num_classes, self.hidden, self.dropout, self.compute.dtype)

    def __call__(
        self,
        levels: Sequence[PointLevel],
        *,
        train: bool,
        drop_noise: Array | None = None,
        dropout_noise: Array | None = None,
    ) -> dict[str, Array]:
        """Levels -> "tokens" [B, G, D] of the coarsest, "features" float32[B, F], "logits"."""
        tokens = self.encoder(levels, train=train, drop_noise=drop_noise)[-1]
        normed = self.norm(tokens)
        pooled = (normed.mean(1), normed.max(1))
        features = sum(pooled) if self.pool == "add" else jnp.concatenate(pooled, -1)
        logits = self.head(features, train=train, noise=dropout_noise)
        return {"tokens": tokens.astype(jnp.float32), "features": features, "logits": logits}
