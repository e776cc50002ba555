"""CRATE-MAE's networks: white-box encoder and decoder over all tokens, mask tokens among them.

Pai, Buchanan, Wu, Yu, Ma, "Masked Completion via Structured Diffusion with White-Box Transformers",
ICLR 2024, with the details of the official code.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.masking import TokenSplit
from maskjax.nn import initializers
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Probe, Stack


class Autoencoder(nn.Module):
    """Both stacks over all tokens, in the order of a split."""

    grid: tuple[int, int]
    patch_dim: int
    dim: int
    encoder_stack: Stack
    decoder_stack: Stack
    dtype: jnp.dtype
    eps: float = 1e-6

    def setup(self):
        dim, dtype = self.dim, self.dtype
        self.patch_embed = Dense(dim, dtype=dtype, first=True)
        self.cls_token = self.param("cls_token", initializers.token, (dim,))
        self.mask_token = self.param("mask_token", initializers.token, (dim,))
        self.table = sincos_2d(self.grid, dim)
        self.blocks = self.param("blocks", self.encoder_stack.init, dim)
        self.norm = LayerNorm(self.eps, dtype)
        self.decoder_blocks = self.param("decoder_blocks", self.decoder_stack.init, dim)
        self.decoder_norm = LayerNorm(self.eps, dtype)
        self.pred = Dense(self.patch_dim, dtype=dtype)

    def __call__(
        self, visible: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, Array]]:
        """Visible patches [B, K, P] -> prediction for the hidden ones float32[B, N - K, P], taps.

        Taps: "latent" [B, 1 + N, D] (after the norm), "all" (prediction for all N), both in the
        order of `split`.
        """
        tokens, _ = self.encoder_stack(self.blocks, self._tokens(visible, split))
        latent = constrain_batch(self.norm(tokens))
        decoded, _ = self.decoder_stack(self.decoder_blocks, latent)
        seen = {}
        if "latent" in taps:
            seen["latent"] = latent
        if "all" in taps:
            seen["all"] = self._predict(decoded[:, 1:])
        return self._predict(decoded[:, 1 + split.num_visible :]), seen

    def encode(
        self,
        patches: Array,
        *,
        taps: Sequence[str] = (),
        probes: Mapping[str, Probe] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """All patches [B, N, P] in raster order -> latent [B, 1 + N, D], taps and probes of layers.

        The tap "prenorm" is the latent before the final norm.
        """
        tokens = self._with_cls(self.patch_embed(patches) + self._positions())
        inner = tuple(tap for tap in taps if tap != "prenorm")
        tokens, seen = self.encoder_stack(self.blocks, tokens, taps=inner, probes=probes)
        if "prenorm" in taps:
            seen["prenorm"] = tokens
        return self.norm(tokens), seen

    def decode(
        self,
        latent: Array,
        *,
        taps: Sequence[str] = (),
        probes: Mapping[str, Probe] | None = None,
    ) -> dict[str, Array]:
        """Taps and probes of the decoder's layers on a latent [B, 1 + N, D]."""
        return self.decoder_stack(self.decoder_blocks, latent, taps=taps, probes=probes)[1]

    def _tokens(self, visible: Array, split: TokenSplit) -> Array:
        """[B, 1 + N, D]: cls, visible patches, mask tokens; each with its position."""
        x = constrain_batch(self.patch_embed(visible))
        shape = (x.shape[0], split.num_hidden, self.dim)
        mask = constrain_batch(jnp.broadcast_to(self.mask_token.astype(x.dtype), shape))
        positions = jnp.take(self._positions(), split.ids, axis=0)
        return self._with_cls(jnp.concatenate([x, mask], axis=1) + positions)

    def _positions(self) -> Array:
        return jnp.asarray(self.table, self.dtype)

    def _with_cls(self, x: Array) -> Array:
        # The position of cls is zero.
        cls = jnp.broadcast_to(self.cls_token.astype(x.dtype), (x.shape[0], 1, self.dim))
        return constrain_batch(jnp.concatenate([constrain_batch(cls), x], axis=1))

    def _predict(self, x: Array) -> Array:
        return constrain_batch(self.pred(self.decoder_norm(x))).astype(jnp.float32)
