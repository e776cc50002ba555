"""I2P-MAE's network: Point-M2AE's encoder and decoder, and a head for each of two targets.

Zhang et al. 2022 (Point-M2AE) and 2023 (I2P-MAE), with the details of the official code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import flops, initializers, lean
from maskjax.nn.dense import Dense
from maskjax.nn.masked_conv import MaskedBatchNorm
from maskjax.nn.norm import LayerNorm
from maskjax.nn.point_encoder import (
    EPS,
    PointEncoder,
    PointPosition,
    PointSize,
    init_stack,
    linear,
    scale_stack,
)
from maskjax.nn.point_ops import PointLevel, interpolation
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Stack
from maskjax.nn.vit import Compute, Size


class PointFusion(nn.Module):
    """What the coarser scale says about each point, and what is known of it -> one token.

    Attributes:
        dim: of the result.
        num_units: residual units of two layers.
        dtype: of the matmul operands.
    """

    dim: int
    num_units: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, known: Array, said: Array, *, train: bool) -> Array:
        """known [B, N, E] and said [B, N, F] -> [B, N, D]."""
        x = jnp.concatenate([known, said], -1)
        x = lean.gelu(self._layer(x, "fuse", train)).astype(self.dtype)
        for i in range(self.num_units):
            inner = lean.gelu(self._layer(x, f"unit{i}_conv1", train)).astype(self.dtype)
            x = lean.gelu(self._layer(inner, f"unit{i}_conv2", train) + x).astype(self.dtype)
        return x

    def _layer(self, x: Array, name: str, train: bool) -> Array:
        x = linear(x, self.dim, name, dtype=self.dtype)
        return MaskedBatchNorm(EPS, dtype=self.dtype, name=f"{name}_norm")(x, train=train)


class PointDecoder(nn.Module):
    """From the coarsest scale down to the second finest.

    Mask tokens stand for what is hidden at the coarsest scale; at finer ones it is zeros beside
    what the coarser scale says.

    Attributes:
        size: widths and depths, from the coarsest scale; as many as scales but one.
        num_units: of each `PointFusion`.
        drop_path: rate of the last block.
        compute: dtype, scan, remat, attention.
    """

    size: PointSize
    num_units: tuple[int, ...]
    drop_path: float = 0.0
    compute: Compute = Compute()

    def setup(self):
        size, dtype = self.size, self.compute.dtype
        scales = range(len(size.dims))
        self.mask_token = self.param("mask_token", initializers.token, (size.dims[0],))
        self.positions = [PointPosition(dim, dtype) for dim in size.dims]
        self.blocks = [
            self.param(f"level{i}_blocks", init_stack(self.stack(i), size.dims[i])) for i in scales
        ]
        sizes = zip(size.dims[1:], self.num_units, strict=True)
        self.fusions = [PointFusion(dim, units, dtype) for dim, units in sizes]
        self.norm = LayerNorm(EPS)

    def stack(self, scale: int) -> Stack:
        """The blocks of a scale, counted from the coarsest."""
        return scale_stack(self.size, scale, self.drop_path, self.compute)

    def __call__(
        self,
        levels: Sequence[PointLevel],
        encoded: Sequence[Array],
        valid: Sequence[Array],
        *,
        train: bool,
        drop_noise: Array | None = None,
    ) -> Array:
        """float32[B, G, D] of the second finest scale, normed; arguments as of the encoder.

        `encoded` are its results; the visible tokens of the coarsest scale fill its room.
        """
        x, first = self._with_mask_tokens(encoded[-1], levels[-1].num_tokens), 0
        for i, depth in enumerate(self.size.depths):
            scale = len(levels) - 1 - i
            centers = levels[scale].centers
            if i:
                said = interpolation(centers, levels[scale + 1].centers) @ x.astype(jnp.float32)
                known = _padded(encoded[scale], valid[scale], centers.shape[1])
                known, said = known.astype(x.dtype), said.astype(x.dtype)
                x = self.fusions[i - 1](known, said, train=train)
            own = slice(first, first := first + depth)
            noise = None if drop_noise is None else drop_noise[:, own]
            options = {"context": (self.positions[i](centers),), "drop_noise": noise}
            x = constrain_batch(self.stack(i)(self.blocks[i], x, **options)[0])
        return constrain_batch(self.norm(x))

    def _with_mask_tokens(self, visible: Array, num_tokens: int) -> Array:
        dtype = self.compute.dtype
        shape = (len(visible), num_tokens - visible.shape[1], visible.shape[2])
        mask = jnp.broadcast_to(self.mask_token.astype(dtype), shape)
        return constrain_batch(jnp.concatenate([visible.astype(dtype), mask], 1))


def _padded(encoded: Array, valid: Array, num_tokens: int) -> Array:
    """The visible tokens [B, R, D], and zeros for all others: [B, G, D]."""
    rest = num_tokens - encoded.shape[1]
    return jnp.pad(jnp.where(valid[..., None], encoded, 0), ((0, 0), (0, rest), (0, 0)))


class Completed(NamedTuple):
    """What the network makes of a masked cloud; tokens of the second finest scale.

    Attributes:
        encoded: of every scale, [B, R, D].
        decoded: float32[B, G, D].
        points: float32[B, G, k, 3], where the members of each token are, seen from its centre.
        semantics: [B, R, k, F], of the members of the tokens that may be visible.
    """

    encoded: list[Array]
    decoded: Array
    points: Array
    semantics: Array


class PointAutoencoder(nn.Module):
    """encoder, decoder, points (a linear layer), semantics (another).

    Attributes:
        encoder_size, decoder_size: of `PointEncoder` and `PointDecoder`.
        num_units: of the decoder.
        members: k, points of a token of the second finest scale.
        features: F, values of a point to be predicted.
        drop_path: rate of the last block of either.
        compute: dtype, scan, remat, attention.
    """

    encoder_size: PointSize
    decoder_size: PointSize
    num_units: tuple[int, ...]
    members: int
    features: int
    drop_path: float = 0.0
    compute: Compute = Compute()

    def setup(self):
        shared = {"drop_path": self.drop_path, "compute": self.compute}
        self.encoder = PointEncoder(self.encoder_size, **shared)
        self.decoder = PointDecoder(self.decoder_size, self.num_units, **shared)
        spread = initializers.symmetric_uniform(self.decoder_size.dims[-1] ** -0.5)
        options = {"dtype": self.compute.dtype, "kernel_init": spread, "bias_init": spread}
        self.points = Dense(3 * self.members, **options)
        self.semantics = Dense(self.features * self.members, **options)

    def __call__(
        self,
        levels: Sequence[PointLevel],
        valid: Sequence[Array],
        *,
        train: bool,
        drop_noise: tuple[Array, Array] | None = None,
    ) -> Completed:
        """Arguments as of the encoder; noise for both stacks, float32[B, blocks, 2] each."""
        noise = drop_noise or (None, None)
        encoded = self.encoder(levels, valid, train=train, drop_noise=noise[0])
        decoded = self.decoder(levels, encoded, valid, train=train, drop_noise=noise[1])
        split = "b g (k c) -> b g k c"
        room = valid[1].shape[1]
        points = rearrange(self.points(decoded).astype(jnp.float32), split, k=self.members)
        semantics = rearrange(self.semantics(decoded[:, :room]), split, k=self.members)
        return Completed(encoded, decoded, points, constrain_batch(semantics))

    def encode(self, levels: Sequence[PointLevel]) -> Array:
        """Whole clouds -> float32[B, G, D] of the coarsest scale, normed."""
        return self.encoder(levels, train=False)[-1]


def encoder_flops(
    size: PointSize, num_groups: Sequence[int], group_sizes: Sequence[int], shown: Sequence[int]
) -> int:
    """Matmul FLOPs of the encoder for one cloud with `shown` tokens of each scale in the blocks."""
    total = 0
    for i, (groups, members) in enumerate(zip(num_groups, group_sizes, strict=True)):
        below, own = size.dims[i - 1], size.dims[i]
        first, second, third, last = (below, below, own, own) if i else (128, 256, 512, own)
        points = groups * members
        total += flops.linear(points, below if i else 3, first)
        total += flops.linear(points, first, second) + flops.linear(points, third, last)
        total += flops.linear(points + groups, second, third)
        total += flops.linear(shown[i], 3 + own, own)
        total += flops.transformer(shown[i], Size(own, size.depths[i], size.heads))
    return total


def decoder_flops(model: PointAutoencoder, num_groups: Sequence[int], shown: Sequence[int]) -> int:
    """Of the decoder and the heads; `num_groups` and `shown` of every scale, the finest first."""
    size, total = model.decoder_size, 0
    for i, (dim, depth) in enumerate(zip(size.dims, size.depths, strict=True)):
        groups = num_groups[len(num_groups) - 1 - i]
        if i:
            above, known = size.dims[i - 1], model.encoder_size.dims[len(num_groups) - 1 - i]
            total += flops.linear(groups, num_groups[len(num_groups) - i], above)
            total += flops.linear(groups, above + known, dim)
            total += 2 * model.num_units[i - 1] * flops.linear(groups, dim, dim)
        total += flops.linear(groups, 3 + dim, dim)
        total += flops.transformer(groups, Size(dim, depth, size.heads))
    last = size.dims[-1]
    points = flops.linear(num_groups[1], last, 3 * model.members)
    return total + points + flops.linear(shown[1], last, model.features * model.members)
