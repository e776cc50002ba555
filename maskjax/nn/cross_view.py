"""CroCo's network: one encoder for two views, and a decoder of one that looks at the other."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.masking import TokenSplit
from maskjax.nn import flops, initializers
from maskjax.nn.decoder_block import DecoderBlock
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import Geometry
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d
from maskjax.nn.rotary import grid_positions, rotary_table
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Stack
from maskjax.nn.teacher_vit import VariantEncoder
from maskjax.nn.vit import Compute, Size


class CrossViewDecoder(nn.Module):
    """Tokens of one view through blocks that look at another view (CroCo, section 3).

    Visible tokens stay in front of mask tokens and positions come by id: the numbers of the
    official code, which goes back to raster order first, without a scatter.

    Attributes:
        size: width, depth, heads.
        grid: (rows, columns) of the patches of both views.
        rotary: base of rotary positions; 0 = sin-cos positions are added to both views.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
    """

    size: Size
    grid: tuple[int, int]
    rotary: int = 0
    compute: Compute = Compute()
    eps: float = 1e-6

    def setup(self):
        size, compute = self.size, self.compute
        self.embed = Dense(size.dim, dtype=compute.dtype)
        self.mask_token = self.param("mask_token", initializers.token, (size.dim,))
        options = (self.eps, compute.dtype, compute.attention)
        block = DecoderBlock(size.heads, size.mlp_hidden, *options, parent=None)
        self.stack = Stack(block, size.depth, compute.scan, compute.remat)
        self.blocks = self.param("blocks", self._init_blocks)
        self.norm = LayerNorm(self.eps)

    def _init_blocks(self, key: Array) -> dict:
        return self.stack.init(key, self.size.dim, (jnp.zeros((1, 2, self.size.dim)),))

    def __call__(self, first: Array, second: Array, split: TokenSplit | None = None) -> Array:
        """Encoded views -> float32[B, N, Dd], normed, of the first view.

        Args:
            first: [B, K, D], visible tokens of the first view in the order of `split`.
            second: [B, N, D], all tokens of the second, in raster order.
            split: ids int[B, N], cuts (K, ...), also the order of the result; None = all tokens of
                the first view are there, in raster order, and no mask token is used.
        """
        x, memory = constrain_batch(self.embed(first)), constrain_batch(self.embed(second))
        ids = None
        if split is not None:
            ids, shape = split.ids, (x.shape[0], split.num_hidden, x.shape[-1])
            mask = constrain_batch(jnp.broadcast_to(self.mask_token.astype(x.dtype), shape))
            x = jnp.concatenate([x, mask], axis=1)
        if self.rotary:
            head_dim = self.size.dim // self.size.heads
            table = jnp.asarray(rotary_table(grid_positions(self.grid), head_dim, self.rotary))
            context = (memory, _rows(table, ids), table)
        else:
            table = jnp.asarray(sincos_2d(self.grid, self.size.dim), x.dtype)
            x, context = x + _rows(table, ids), (memory + table,)
        x, _ = self.stack(self.blocks, constrain_batch(x), context=context)
        return constrain_batch(self.norm(x))


def _rows(table: Array, ids: Array | None) -> Array:
    return table if ids is None else jnp.take(table, ids, axis=0)


class CrossViewAutoencoder(nn.Module):
    """Encoder of both views, decoder, and a linear layer to the values of a patch.

    Attributes:
        geometry: of the encoder, which has no class token.
        decoder_size: width, depth, heads.
        compute: dtype, scan, remat, attention.
    """

    geometry: Geometry
    decoder_size: Size
    compute: Compute = Compute()

    def setup(self):
        g = self.geometry
        self.encoder = VariantEncoder(g, self.compute)
        options = (g.grid, g.rotary, self.compute, g.eps)
        self.decoder = CrossViewDecoder(self.decoder_size, *options)
        self.head = Dense(g.patch_values, dtype=self.compute.dtype)

    def __call__(self, visible: Array, split: TokenSplit, other: Array) -> Array:
        """Visible patches [B, K, P] of one view, all patches [B, N, P] of the other -> prediction
        float32[B, N - K, P] for the hidden ones."""
        features = self.decode(self.encode(visible, split.visible_ids), self.encode(other), split)
        return self.predict(features[:, split.num_visible :])

    def encode(self, patches: Array, ids: Array | None = None) -> Array:
        """Patches [B, K, P] of a view -> tokens float32[B, K, D]; `ids` as of the encoder."""
        return self.encoder(patches, ids)[0]

    def decode(self, first: Array, second: Array, split: TokenSplit | None = None) -> Array:
        """See `CrossViewDecoder`."""
        return self.decoder(first, second, split)

    def predict(self, features: Array) -> Array:
        """Tokens of the decoder [B, T, Dd] -> float32[B, T, P]."""
        return constrain_batch(self.head(features)).astype(jnp.float32)


def forward_flops(model: CrossViewAutoencoder, num_visible: int) -> int:
    """Matmul FLOPs of the loss for one pair of views."""
    g, decoder = model.geometry, model.decoder_size
    num, values = g.num_patches, g.patch_values
    encoder = Size(g.dim, g.depth, g.heads, g.mlp_hidden / g.dim)
    tokens = num_visible + num
    cross = flops.linear(2 * num, decoder.dim, 2 * decoder.dim) + 2 * (2 * num * num * decoder.dim)
    return (
        flops.linear(tokens, values, g.dim)
        + flops.transformer(num_visible, encoder)
        + flops.transformer(num, encoder)
        + flops.linear(tokens, g.dim, decoder.dim)
        + flops.transformer(num, decoder)
        + decoder.depth * cross
        + flops.linear(num - num_visible, decoder.dim, values)
    )
