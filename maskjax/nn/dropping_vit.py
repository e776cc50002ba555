"""A ViT classifier that can leave tokens out: nobody looks at them, as if they were not there."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.nn.dense import Dense
from maskjax.nn.geometry import Geometry
from maskjax.nn.teacher_vit import VariantEncoder
from maskjax.nn.vit import Compute

FAR = -1e9


class DroppingViT(nn.Module):
    """encoder and head, the names of `TeacherViT` with pool = "cls".

    Attributes:
        geometry: of a classifier that reads the class token.
        compute: dtype, scan, remat, attention.
        drop_path: rate of the last block.
    """

    geometry: Geometry
    compute: Compute = Compute()
    drop_path: float = 0.0

    @nn.compact
    def __call__(
        self, patches: Array, dropped: Array | None = None, *, drop_noise: Array | None = None
    ) -> tuple[Array, Array]:
        """Patches [B, N, P] -> logits float32[B, classes] and tokens float32[B, 1 + N, D].

        Args:
            patches: all patches, standardised, raster order.
            dropped: bool[B, N], True = left out: no token attends to it, so that the class token is
                that of the others alone. Its own row of the result means nothing.
            drop_noise: float32[B, depth, 2] for drop-path; None = none.
        """
        bias = None
        if dropped is not None:
            front = jnp.zeros((len(dropped), self.geometry.prefix_tokens), bool)
            away = jnp.concatenate([front, dropped], axis=1)
            bias = jnp.where(away, FAR, 0.0)[:, None, None, :]
        encoder = VariantEncoder(self.geometry, self.compute, self.drop_path, name="encoder")
        tokens, _ = encoder(patches, bias=bias, drop_noise=drop_noise)
        tokens = tokens.astype(jnp.float32)
        return Dense(self.geometry.num_classes, name="head")(tokens[:, 0]), tokens
