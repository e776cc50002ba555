"""CAE's networks: visible encoder, latent contextual regressor, decoder of hidden tokens.

Chen, Ding, Wang, et al., "Context Autoencoder for Self-Supervised Representation Learning", IJCV
2024, with the details of the official code.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.masking import TokenSplit
from maskjax.nn.cross_attention import CrossBlock
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import Geometry
from maskjax.nn.initializers import truncated
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Probe, Stack
from maskjax.nn.teacher_vit import VariantEncoder
from maskjax.nn.variant_block import Variant, VariantBlock
from maskjax.nn.vit import Compute, Size

token_init = truncated(0.02)


class Regressor(nn.Module):
    """Cross-attention blocks whose queries see the memory and each other, and a norm.

    Attributes:
        size: width, depth, heads.
        variant: options of the blocks.
        compute: dtype, scan, remat, attention.
        drop_path: rate of the last block.
        eps: of every LayerNorm.
    """

    size: Size
    variant: Variant
    compute: Compute = Compute()
    drop_path: float = 0.0
    eps: float = 1e-6

    def setup(self):
        size, compute = self.size, self.compute
        block = CrossBlock(
            size.heads,
            size.mlp_hidden,
            self.variant,
            eps=self.eps,
            dtype=compute.dtype,
            implementation=compute.attention,
            parent=None,
        )
        self.stack = Stack(block, size.depth, compute.scan, compute.remat, self.drop_path)
        example = (jnp.zeros((1, 2, size.dim)),) * 3
        self.blocks = self.param("blocks", self.stack.init, size.dim, example)
        self.norm = LayerNorm(self.eps)

    def __call__(
        self,
        queries: Array,
        memory: Array,
        positions: Array,
        memory_positions: Array,
        drop_noise: Array | None = None,
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Queries [B, M, D], memory [B, K, D], positions of both -> float32[B, M, D] and probes."""
        context = (memory, positions, memory_positions)
        options = {"context": context, "drop_noise": drop_noise, "probes": probes}
        x, seen = self.stack(self.blocks, queries, **options)
        return constrain_batch(self.norm(x)), seen


class TokenDecoder(nn.Module):
    """Blocks, a norm, and a linear layer to the vocabulary.

    Attributes:
        size: width, depth, heads.
        vocab: V.
        variant, compute, drop_path, eps: as of `Regressor`.
    """

    size: Size
    vocab: int
    variant: Variant
    compute: Compute = Compute()
    drop_path: float = 0.0
    eps: float = 1e-6

    def setup(self):
        size, compute = self.size, self.compute
        options = (self.variant, self.eps, compute.dtype, compute.attention)
        block = VariantBlock(size.heads, size.mlp_hidden, *options, parent=None)
        self.stack = Stack(block, size.depth, compute.scan, compute.remat, self.drop_path)
        self.blocks = self.param("blocks", self.stack.init, size.dim)
        self.norm = LayerNorm(self.eps, compute.dtype)
        self.head = Dense(self.vocab, dtype=compute.dtype)

    def __call__(self, x: Array, drop_noise: Array | None = None) -> Array:
        """Tokens [B, M, D] -> logits [B, M, V] in the compute type."""
        x, _ = self.stack(self.blocks, x, drop_noise=drop_noise)
        return constrain_batch(self.head(self.norm(x)))


class ContextAutoencoder(nn.Module):
    """Predicts the latents of hidden patches from those of visible ones, and tokens from these.

    Attributes:
        geometry: of the encoder.
        decoder_size: width, heads and MLP of regressor and decoder, depth of the decoder.
        regressor_depth: blocks of the regressor.
        vocab: V, number of visual tokens.
        layer_scale: where the channel factors of all branches start; 0 = there are none.
        drop_path: rate of the last block of each stack.
        compute: dtype, scan, remat, attention.
    """

    geometry: Geometry
    decoder_size: Size
    regressor_depth: int
    vocab: int
    layer_scale: float
    drop_path: float
    compute: Compute

    def setup(self):
        g, size, compute = self.geometry, self.decoder_size, self.compute
        self.encoder = VariantEncoder(
            g, compute, self.drop_path, self.layer_scale, token_init, token_init
        )
        if size.dim != g.dim:
            self.project = Dense(size.dim, dtype=compute.dtype)
            self.project_norm = LayerNorm(g.eps)
        self.mask_token = self.param("mask_token", token_init, (size.dim,))
        variant = Variant(g.qkv_bias, self.layer_scale)
        shared = (variant, compute, self.drop_path, g.eps)
        regressor = Size(size.dim, self.regressor_depth, size.heads, size.mlp_ratio)
        self.regressor = Regressor(regressor, *shared)
        self.decoder = TokenDecoder(size, self.vocab, *shared)

    def __call__(
        self,
        visible: Array,
        split: TokenSplit,
        noise: Mapping[str, Array] | None = None,
        probes: Callable[[Array, Array], Mapping[str, Probe]] | None = None,
    ) -> tuple[Array, Array, Array, dict[str, Array]]:
        """Visible patches [B, K, P] -> what is predicted for the M hidden ones, in `split`'s order.

        Args:
            visible: standardised, in the order of `split`.
            split: ids int[B, N], cuts (K,).
            noise: for drop-path: "encoder", "regressor" and "decoder" float32[B, depth, 2]; None =
                none.
            probes: (memory with positions [B, K, E], positions of the queries [B, M, E]) -> probes
                of the regressor's blocks.

        Returns:
            Latent float32[B, 1 + K, D] (cls first), predicted latents float32[B, M, E], logits
            [B, M, V], and what the probes found.
        """
        noise, dtype = noise or {}, self.compute.dtype
        latent, _ = self.encoder(visible, split.visible_ids, drop_noise=noise.get("encoder"))
        memory = self._projected(latent[:, 1:]).astype(dtype)
        dim = self.decoder_size.dim
        table = jnp.asarray(sincos_2d(self.geometry.grid, dim, first="row"), dtype)
        places, hidden_places = (
            constrain_batch(jnp.take(table, ids, axis=0))
            for ids in (split.visible_ids, split.hidden_ids)
        )
        shape = (memory.shape[0], split.num_hidden, dim)
        queries = constrain_batch(jnp.broadcast_to(self.mask_token.astype(dtype), shape))
        context = (memory, hidden_places, places)
        found = probes(memory + places, hidden_places) if probes else None
        predicted, seen = self.regressor(queries, *context, noise.get("regressor"), found)
        logits = self.decoder(predicted.astype(dtype) + hidden_places, noise.get("decoder"))
        return latent, predicted, logits, seen

    def target(self, hidden: Array, ids: Array, drop_noise: Array | None = None) -> Array:
        """Hidden patches [B, M, P] and their ids -> latents float32[B, M, E] by the encoder."""
        latent, _ = self.encoder(hidden, ids, drop_noise=drop_noise)
        return self._projected(latent[:, 1:]).astype(jnp.float32)

    def encode(self, patches: Array) -> Array:
        """All patches [B, N, P] in raster order -> latent float32[B, 1 + N, D]."""
        return self.encoder(patches)[0]

    def _projected(self, x: Array) -> Array:
        """From the encoder's width to the regressor's, where they differ."""
        if self.decoder_size.dim == self.geometry.dim:
            return x
        return constrain_batch(self.project_norm(self.project(x)))
