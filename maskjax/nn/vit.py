"""Vision transformer: sizes, the encoder over any subset of patches, and the classifier."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import initializers
from maskjax.nn.attention import Allow, Implementation
from maskjax.nn.block import Block
from maskjax.nn.dense import Dense
from maskjax.nn.geometry import SINCOS
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Remat, Stack


@dataclasses.dataclass(frozen=True)
class Size:
    """Width, depth and heads of a transformer; the MLP is `mlp_ratio` times as wide."""

    dim: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0

    @property
    def mlp_hidden(self) -> int:
        """Hidden width of the MLP, truncated as in timm."""
        # The small term undoes the rounding of ratios like 6144 / 188.
        return int(self.dim * self.mlp_ratio + 1e-6)


# ViT (Dosovitskiy et al. 2021, table 1), DeiT (Touvron et al. 2021) for tiny and small; giant is
# the width and depth of Zhai et al. 2022 with their MLP of 6144.
SIZES = {
    "tiny": Size(192, 12, 3),
    "s": Size(384, 12, 6),
    "b": Size(768, 12, 12),
    "l": Size(1024, 24, 16),
    "h": Size(1280, 32, 16),
    "g": Size(1408, 40, 16, 6144 / 1408),
}


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a transformer runs; no choice here changes a parameter.

    Attributes:
        dtype: of matmul operands and of the residual stream.
        scan: one loop over the layers, or unrolled; see `Stack`.
        remat: "none", "dots" or "full"; see `Stack`.
        attention: see `Attention`.
    """

    dtype: DTypeLike = jnp.float32
    scan: bool = True
    remat: Remat = "none"
    attention: Implementation = "einsum"

    def stack(
        self,
        size: Size,
        *,
        drop_path: float = 0.0,
        eps: float = 1e-6,
        allow_in: tuple[int, ...] | None = None,
    ) -> Stack:
        """The block stack of a transformer of this size."""
        block = Block(size.heads, size.mlp_hidden, eps, self.dtype, self.attention, parent=None)
        return Stack(block, size.depth, self.scan, self.remat, drop_path, allow_in=allow_in)


class Encoder(nn.Module):
    """ViT encoder over all patches of an image or over any of them.

    Attributes:
        size: width, depth, heads.
        grid: (rows, columns) of the patch grid the positions refer to.
        patch_dim: P, the number of values in a raw patch.
        compute: dtype, scan, remat, attention.
        position: "sincos" (a constant, MAE's pretraining), "sincos_rows" (the same with the row in
            the first half, mmpretrain's) or "learned" (a parameter that starts as the sin-cos
            table, MAE's fine-tuning).
        final_norm: LayerNorm after the last block.
        drop_path: rate of the last block.
        eps: of every LayerNorm.
        allow_in: layers that an attention mask is for; None = all.
    """

    size: Size
    grid: tuple[int, int]
    patch_dim: int
    compute: Compute = Compute()
    position: Literal["sincos", "sincos_rows", "learned"] = "sincos"
    final_norm: bool = True
    drop_path: float = 0.0
    eps: float = 1e-6
    allow_in: tuple[int, ...] | None = None

    def setup(self):
        dim = self.size.dim
        # The bias keeps the default of a PyTorch convolution, as in the official MAE code.
        bias_init = initializers.symmetric_uniform(1 / math.sqrt(self.patch_dim))
        self.patch_embed = Dense(dim, dtype=self.compute.dtype, bias_init=bias_init, first=True)
        self.cls_token = self.param("cls_token", initializers.token, (dim,))
        first = SINCOS.get(self.position, "column")
        table = sincos_2d(self.grid, dim, cls=True, first=first)
        if self.position == "learned":
            table = self.param("pos_embed", lambda key: jnp.asarray(table))
        self.table = table
        self.stack = self.compute.stack(
            self.size, drop_path=self.drop_path, eps=self.eps, allow_in=self.allow_in
        )
        self.blocks = self.param("blocks", self.stack.init, dim)
        if self.final_norm:
            self.norm = LayerNorm(self.eps)

    def embed(self, patches: Array) -> Array:
        """patches [B, K, P] -> tokens [B, K, D], before positions."""
        return constrain_batch(self.patch_embed(patches))

    def tokens(self, patches: Array, ids: Array | None = None, added: Array | None = None) -> Array:
        """What the first block gets, [B, 1 + K, D] (cls first); arguments as of a call."""
        table = jnp.asarray(self.table)
        positions = table[1:] if ids is None else jnp.take(table[1:], ids, axis=0)
        x = self.embed(patches) + positions.astype(self.compute.dtype)
        if added is not None:
            x = x + added.astype(x.dtype)
        cls = (self.cls_token + table[0]).astype(x.dtype)
        cls = jnp.broadcast_to(cls, (x.shape[0], 1, x.shape[-1]))
        return constrain_batch(jnp.concatenate([constrain_batch(cls), x], axis=1))

    def __call__(
        self,
        patches: Array,
        ids: Array | None = None,
        *,
        taps: Sequence[str] = (),
        drop_noise: Array | None = None,
        added: Array | None = None,
        allow: Allow | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Raw patches [B, K, P] -> latent float32[B, 1 + K, D] (cls first) and {tap: activation}.

        Args:
            patches: K of the image's patches, any order.
            ids: int[B, K], which patch of the grid each one is; None = all, in raster order.
            taps: of the block stack (see `Stack`), or "input" for the tokens it gets.
            drop_noise: float32[B, depth, 2] for drop-path; None = none.
            added: broadcastable to [B, K, D], added to the patch tokens like their positions.
            allow: of the block stack.
        """
        x = self.tokens(patches, ids, added)
        inputs = x
        inner = tuple(tap for tap in taps if tap != "input")
        x, seen = self.stack(self.blocks, x, taps=inner, drop_noise=drop_noise, allow=allow)
        if "input" in taps:
            seen["input"] = inputs
        return constrain_batch(self.norm(x) if self.final_norm else x), seen


class Classifier(nn.Module):
    """ViT classifier in MAE's two forms: mean of patch tokens with its own norm, or the cls token.

    Attributes:
        size, grid, compute, drop_path: of the encoder.
        num_classes: outputs.
        pool: "gap" (mean of patch tokens, then fc_norm; the encoder's final norm is dropped) or
            "cls" (cls token after the final norm).
        position: "learned" as in MAE's fine-tuning, or "sincos".
        eps: of every LayerNorm.
    """

    size: Size
    grid: tuple[int, int]
    num_classes: int
    pool: Literal["gap", "cls"] = "gap"
    compute: Compute = Compute()
    position: Literal["sincos", "learned"] = "learned"
    drop_path: float = 0.0
    eps: float = 1e-6

    @nn.compact
    def __call__(self, patches: Array, *, drop_noise: Array | None = None) -> tuple[Array, Array]:
        """All patches [B, N, P] -> features float32[B, D] and logits float32[B, num_classes]."""
        encoder = Encoder(
            self.size,
            self.grid,
            patches.shape[-1],
            self.compute,
            self.position,
            final_norm=self.pool == "cls",
            drop_path=self.drop_path,
            eps=self.eps,
            name="encoder",
        )
        tokens, _ = encoder(patches, drop_noise=drop_noise)
        if self.pool == "cls":
            features = tokens[:, 0]
        else:
            mean = tokens[:, 1:].astype(jnp.float32).mean(1)
            features = LayerNorm(self.eps, name="fc_norm")(mean)
        # Truncated normal 2e-5: MAE's fine-tuning starts from an almost constant output.
        init = nn.initializers.truncated_normal(2e-5)
        head = Dense(self.num_classes, kernel_init=init, name="head")
        return features.astype(jnp.float32), head(features)


def layer_ids(depth: int, prefix: str = "encoder/") -> Callable[[str], int | tuple[int, ...]]:
    """path -> depth id for layer-wise learning-rate decay, as MAE's fine-tuning numbers them.

    Embeddings of the encoder are 0, its block i is i + 1 (one id per slice of a stacked leaf), all
    the rest depth + 1. Paths of the encoder begin with `prefix`.
    """
    tokens = ("cls_token", "dist_token", "register_tokens", "mask_token")
    names = (*tokens, "pos_embed", "patch_embed/")
    embeddings = tuple(prefix + name for name in names)

    def layer(path: str) -> int | tuple[int, ...]:
        if path.startswith(f"{prefix}blocks/"):
            return tuple(range(1, depth + 1))
        return 0 if path.startswith(embeddings) else depth + 1

    return layer
