"""An encoder whose blocks are compared with a teacher's, through a learned mixture and heads."""

from collections.abc import Sequence
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.nn.feature_heads import FeatureHeads
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.vit import Compute, Encoder, Size

Fusion = Literal["linear", "sum", "simple"]
FUSIONS = get_args(Fusion)


class AlignedStudent(nn.Module):
    """Mixes its blocks for each block of the teacher (Dynamic Alignment, Xue et al. 2023).

    Attributes:
        encoder_size, grid, patch_dim, compute, position, eps, drop_path: of the encoder.
        fusion: how the matrix starts: "linear", the identity + 0.01; "sum", the mean; "simple",
            there is none.
        heads: one for each block of the teacher.
    """

    encoder_size: Size
    grid: tuple[int, int]
    patch_dim: int
    compute: Compute
    position: str
    eps: float
    drop_path: float
    fusion: Fusion
    heads: FeatureHeads

    def setup(self):
        shared = (self.encoder_size, self.grid, self.patch_dim, self.compute, self.position)
        self.encoder = Encoder(*shared, drop_path=self.drop_path, eps=self.eps)
        depth, num = self.encoder_size.depth, self.heads.num
        if self.fusion != "simple":
            start = (
                np.eye(num) + 0.01 if self.fusion == "linear" else np.full((num, depth), 1 / depth)
            )
            self.mix = self.param("mix", lambda key: jnp.asarray(start, jnp.float32))
        self.projections = self.param("heads", self.heads.init, self.encoder_size.dim)

    def __call__(
        self, visible: Array, ids: Array, rows: Sequence[int], noise: Array | None = None
    ) -> tuple[list[Array], Array]:
        """Visible patches [B, K, P] -> what is compared, and the blocks' outputs.

        Args:
            visible: standardised.
            ids: int[B, K], which patch of the grid each one is.
            rows: the teacher's blocks that are wanted, counted from 0.
            noise: float32[B, depth, 2] for drop-path; None = none.

        Returns:
            [float32[B, 1 + K, E] for each row], and [depth, B, 1 + K, D].
        """
        _, seen = self.encoder(visible, ids, taps=("block",), drop_noise=noise)
        blocks = seen["block"]
        pick = lambda x, i: jax.lax.index_in_dim(x, i, keepdims=False)  # noqa: E731
        if self.fusion == "simple":
            mixed = [pick(blocks, row) for row in rows]
        else:
            shares = jnp.stack([pick(self.mix, row) for row in rows]).astype(blocks.dtype)
            options = {"preferred_element_type": jnp.float32}
            mixed = jnp.einsum("rk,kbtd->rbtd", shares, blocks, **options).astype(blocks.dtype)
            mixed = [constrain_batch(pick(mixed, i)) for i in range(len(rows))]
        shown = [self.heads(self.projections, *pair) for pair in zip(rows, mixed, strict=True)]
        return shown, blocks

    def encode(self, patches: Array) -> Array:
        """All patches [B, N, P] in raster order -> latent float32[B, 1 + N, D]."""
        return self.encoder(patches)[0]
