"""MAE's decoder, with the tokens kept in shuffled order so that the loss is a static slice."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maskjax.masking import TokenSplit
from maskjax.nn import initializers
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import SINCOS
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.vit import Compute, Size


class PatchHead(nn.Module):
    """Blocks, norm and a linear layer over tokens that are embedded already: a second decoder.

    Attributes:
        size: width, depth, heads.
        out_dim: P, values predicted per token.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
    """

    size: Size
    out_dim: int
    compute: Compute = Compute()
    eps: float = 1e-6

    def setup(self):
        self.stack = self.compute.stack(self.size, eps=self.eps)
        self.blocks = self.param("blocks", self.stack.init, self.size.dim)
        self.norm = LayerNorm(self.eps, self.compute.dtype)
        self.pred = Dense(self.out_dim, dtype=self.compute.dtype)

    def __call__(self, x: Array, *, skip: int = 0) -> Array:
        """x [B, T, D] -> float32[B, T - skip, P], of all tokens but the first `skip`."""
        x, _ = self.stack(self.blocks, x)
        return constrain_batch(self.pred(self.norm(x[:, skip:]))).astype(jnp.float32)


class Decoder(nn.Module):
    """Predicts patch values from the latent of the visible ones (He et al. 2022, section 3).

    The official code puts mask tokens in, restores raster order and decodes. Self-attention does
    not care about the order once positions are added, so here visible tokens stay in front and
    positions come by id: the same numbers with no scatter and one sort less.

    Attributes:
        size: width, depth, heads.
        grid: (rows, columns) of the patch grid.
        out_dim: P, values predicted per patch.
        compute: dtype, scan, remat, attention.
        eps: of every LayerNorm.
        position: "sincos" or "sincos_rows", see `Encoder`.
        cls: whether a class token is in front of the latent.
    """

    size: Size
    grid: tuple[int, int]
    out_dim: int
    compute: Compute = Compute()
    eps: float = 1e-6
    position: str = "sincos"
    cls: bool = True

    def setup(self):
        dim, dtype = self.size.dim, self.compute.dtype
        self.embed = Dense(dim, dtype=dtype)
        self.mask_token = self.param("mask_token", initializers.token, (dim,))
        self.table = sincos_2d(self.grid, dim, first=SINCOS[self.position])
        self.stack = self.compute.stack(self.size, eps=self.eps)
        self.blocks = self.param("blocks", self.stack.init, dim)
        self.norm = LayerNorm(self.eps, dtype)
        self.pred = Dense(self.out_dim, dtype=dtype)

    def __call__(
        self, latent: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, Array]]:
        """latent [B, E + K, D] (cls first) -> float32[B, N - K, P], for the hidden tokens only.

        Args:
            latent: encoder output for the visible tokens in the order of `split`.
            split: ids int[B, N], cuts (K, ...).
            taps: of the block stack (see `Stack`), "input", or "all" for the prediction at all
                tokens, float32[B, N, P]; token axes are in the order of `split`, cls first.
        """
        x = self._tokens(latent, split)
        inner = tuple(tap for tap in taps if tap not in ("input", "all"))
        out, seen = self.stack(self.blocks, x, taps=inner)
        if "input" in taps:
            seen["input"] = x
        if "all" in taps:
            seen["all"] = self._predict(out[:, self.cls :])
        return self._predict(out[:, self.cls + split.num_visible :]), seen

    def _tokens(self, latent: Array, split: TokenSplit) -> Array:
        """[B, E + N, Dd]: cls, visible tokens, mask tokens, each with its position."""
        x = constrain_batch(self.embed(latent))
        mask = jnp.broadcast_to(
            self.mask_token.astype(x.dtype), (x.shape[0], split.num_hidden, x.shape[-1])
        )
        table = jnp.asarray(self.table, x.dtype)
        positions = jnp.take(table, split.ids, axis=0)
        # cls has a zero position, so only the other tokens are added to.
        tokens = jnp.concatenate([x[:, self.cls :], constrain_batch(mask)], axis=1) + positions
        if not self.cls:
            return constrain_batch(tokens)
        return constrain_batch(jnp.concatenate([x[:, :1], tokens], axis=1))

    def _predict(self, x: Array) -> Array:
        return constrain_batch(self.pred(self.norm(x))).astype(jnp.float32)
