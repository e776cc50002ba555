"""VideoMAE's network: an encoder of visible tubes, a decoder of those that are to be predicted."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.nn import flops, initializers
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import Geometry
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sinusoid_1d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Stack
from maskjax.nn.teacher_vit import VariantEncoder
from maskjax.nn.variant_block import Variant, VariantBlock
from maskjax.nn.vit import Compute, Size


class TubeDecoder(nn.Module):
    """Mask tokens at some places, behind the visible tokens, through blocks to tube values.

    Attributes:
        size: width, depth, heads.
        num_tokens: N, of the whole clip.
        out_dim: P, values of a tube.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
    """

    size: Size
    num_tokens: int
    out_dim: int
    compute: Compute = Compute()
    eps: float = 1e-6

    def setup(self):
        size, compute = self.size, self.compute
        self.embed = Dense(size.dim, use_bias=False, dtype=compute.dtype)
        cut = initializers.truncated(0.02)
        self.mask_token = self.param("mask_token", cut, (size.dim,))
        options = (self.eps, compute.dtype, compute.attention)
        variant = Variant(qkv_bias="query_value")
        block = VariantBlock(size.heads, size.mlp_hidden, variant, *options, parent=None)
        self.stack = Stack(block, size.depth, compute.scan, compute.remat)
        self.blocks = self.param("blocks", self.stack.init, size.dim)
        self.norm = LayerNorm(self.eps, compute.dtype)
        self.head = Dense(self.out_dim, dtype=compute.dtype)

    def __call__(self, latent: Array, visible_ids: Array, predicted_ids: Array) -> Array:
        """latent [B, K, D] -> float32[B, M, P], for the predicted tokens in the order of their ids.

        Args:
            latent: encoder output for the tokens `visible_ids` int[B, K].
            predicted_ids: int[B, M]; those that are visible too get a mask token all the same.
        """
        table = jnp.asarray(sinusoid_1d(self.num_tokens, self.size.dim))
        x = constrain_batch(self.embed(latent))
        x = x + jnp.take(table, visible_ids, axis=0).astype(x.dtype)
        queries = self.mask_token + jnp.take(table, predicted_ids, axis=0)
        x = constrain_batch(jnp.concatenate([x, constrain_batch(queries.astype(x.dtype))], axis=1))
        x, _ = self.stack(self.blocks, x)
        x = self.norm(x[:, latent.shape[1] :])
        return constrain_batch(self.head(x)).astype(jnp.float32)


class TubeAutoencoder(nn.Module):
    """Encoder and decoder over tubes (Tong et al. 2022; Wang et al. 2023).

    Attributes:
        geometry: of the encoder, with frames and tubelet, without a class token.
        decoder_size: width, depth, heads.
        compute: dtype, scan, remat, attention.
    """

    geometry: Geometry
    decoder_size: Size
    compute: Compute = Compute()

    def setup(self):
        g = self.geometry
        self.encoder = VariantEncoder(g, self.compute)
        sizes = (self.decoder_size, g.num_patches, g.patch_values)
        self.decoder = TubeDecoder(*sizes, self.compute, g.eps)

    def __call__(self, visible: Array, visible_ids: Array, predicted_ids: Array) -> Array:
        """Visible tubes [B, K, P] -> prediction float32[B, M, P] at `predicted_ids` int[B, M]."""
        return self.decode(self.encode(visible, visible_ids), visible_ids, predicted_ids)

    def encode(self, tubes: Array, ids: Array | None = None) -> Array:
        """Tubes [B, K, P] -> tokens float32[B, K, D]; `ids` as of the encoder."""
        return self.encoder(tubes, ids)[0]

    def decode(self, latent: Array, visible_ids: Array, predicted_ids: Array) -> Array:
        """See `TubeDecoder`."""
        return self.decoder(latent, visible_ids, predicted_ids)


def forward_flops(model: TubeAutoencoder, num_visible: int, num_predicted: int) -> int:
    """Matmul FLOPs of the loss for one clip."""
    g, decoder = model.geometry, model.decoder_size
    encoder = Size(g.dim, g.depth, g.heads, g.mlp_hidden / g.dim)
    return (
        flops.linear(num_visible, g.patch_values, g.dim)
        + flops.transformer(num_visible, encoder)
        + flops.linear(num_visible, g.dim, decoder.dim)
        + flops.transformer(num_visible + num_predicted, decoder)
        + flops.linear(num_predicted, decoder.dim, g.patch_values)
    )
