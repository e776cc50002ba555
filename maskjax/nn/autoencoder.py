"""MAE's asymmetric autoencoder: encoder over the visible patches, light decoder over all."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
from jax import Array

from maskjax.masking import TokenSplit
from maskjax.nn import flops
from maskjax.nn.decoder import Decoder
from maskjax.nn.vit import Compute, Encoder, Size


class Autoencoder(nn.Module):
    """Encoder over visible patches and decoder over all (He et al. 2022, section 3).

    Attributes:
        encoder_size, decoder_size: width, depth, heads.
        grid: (rows, columns) of patches.
        patch_dim: P, values of a patch.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
        position: of both tables, "sincos" or "sincos_rows", see `Encoder`.
        allow_in: encoder layers that an attention mask is for, for subclasses that have one.
    """

    encoder_size: Size
    decoder_size: Size
    grid: tuple[int, int]
    patch_dim: int
    compute: Compute
    eps: float = 1e-6
    position: Literal["sincos", "sincos_rows"] = "sincos"
    allow_in: tuple[int, ...] | None = None

    def fields(self) -> tuple:
        """The values of the attributes, for subclasses that add some."""
        return (
            self.encoder_size,
            self.decoder_size,
            self.grid,
            self.patch_dim,
            self.compute,
            self.eps,
            self.position,
            self.allow_in,
        )

    def setup(self):
        shared = (self.grid, self.patch_dim, self.compute)
        options = {"eps": self.eps, "position": self.position}
        self.encoder = Encoder(self.encoder_size, *shared, **options, allow_in=self.allow_in)
        self.decoder = Decoder(self.decoder_size, *shared, **options)

    def __call__(
        self, visible: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, dict[str, Array]]]:
        """Visible patches [B, K, P] -> prediction for the hidden ones [B, N - K, P], taps."""
        inner = [tap for tap in taps if tap != "all"]
        latent, encoder = self.encoder(visible, split.visible_ids, taps=inner)
        prediction, decoder = self.decoder(latent, split, taps=taps)
        return prediction, {"encoder": {**encoder, "latent": latent}, "decoder": decoder}

    def encode(self, patches: Array) -> Array:
        """All patches [B, N, P] in raster order -> latent float32[B, 1 + N, D]."""
        return self.encoder(patches)[0]

    def embed(self, patches: Array) -> Array:
        """All patches [B, N, P] -> tokens [B, N, D] before positions."""
        return self.encoder.embed(patches)


def forward_flops(model: Autoencoder, num_visible: int) -> int:
    """Matmul FLOPs of the loss for one image; the projection runs on visible patches only."""
    encoder, decoder = model.encoder_size, model.decoder_size
    num_tokens = model.grid[0] * model.grid[1]
    return (
        flops.linear(num_visible, model.patch_dim, encoder.dim)
        + flops.transformer(num_visible + 1, encoder)
        + flops.linear(num_visible + 1, encoder.dim, decoder.dim)
        + flops.transformer(num_tokens + 1, decoder)
        + flops.linear(num_tokens - num_visible, decoder.dim, model.patch_dim)
    )
