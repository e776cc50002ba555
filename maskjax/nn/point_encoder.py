"""Point-M2AE's encoder: tokens of several scales, each made of the encoded tokens of the one below.

Zhang, Guo, Gao, Fang, Zhao, Wang, Qiao, Li, "Point-M2AE: Multi-scale Masked Autoencoders for
Hierarchical Point Cloud Pre-training", NeurIPS 2022, with the details of the official code of
I2P-MAE. Every scale runs over visible tokens only; these stand first (see `visible_first`).
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.masking import TokenSplit
from maskjax.masking.hierarchy import padded_split
from maskjax.masking.tokens import gather
from maskjax.nn import lean
from maskjax.nn.dense import Dense
from maskjax.nn.initializers import symmetric_uniform
from maskjax.nn.masked_conv import MaskedBatchNorm
from maskjax.nn.norm import LayerNorm
from maskjax.nn.point_ops import PointLevel, squared_distances, take
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Stack
from maskjax.nn.variant_block import Variant, VariantBlock
from maskjax.nn.vit import Compute

EPS = 1e-5  # torch's, of every LayerNorm
BLOCKED = -1e5  # added to scores: exactly no attention where another key is allowed


@dataclasses.dataclass(frozen=True)
class PointSize:
    """Sizes of a hierarchy, one number for each scale, the finest first.

    Attributes:
        dims, depths: width and blocks.
        heads: of every scale; the MLP is four times as wide as the scale.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: int


def linear(x: Array, features: int, name: str, **options) -> Array:
    """A dense layer of the calling module with torch's first values: U(-a, a), a = 1 / sqrt(D).

    Args:
        x: [..., D].
        features, name, options: of `Dense`.
    """
    spread = symmetric_uniform(x.shape[-1] ** -0.5)
    return Dense(features, kernel_init=spread, bias_init=spread, name=name, **options)(x)


class PointEmbed(nn.Module):
    """Mini-PointNet (Qi et al. 2017): a group of points or tokens -> one token.

    Batch norms see every group, hidden ones too.

    Attributes:
        widths: of the four layers; the third reads each point beside the maximum of its group.
        dtype: of the matmul operands.
    """

    widths: tuple[int, int, int, int]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Groups [B, G, k, C] -> [B, G, D]."""
        first, second, third, last = self.widths
        dtype, relu = {"dtype": self.dtype}, {"dtype": self.dtype, "before": jax.nn.relu}
        x = linear(x, first, "conv1", **dtype)
        x = MaskedBatchNorm(EPS, dtype=self.dtype, name="norm1")(x, train=train)
        x = linear(x, second, "conv2", **relu)
        # One layer over [maximum, point] in two halves: the maximum's is worked out once a group.
        whole = linear(x.max(-2, keepdims=True), third, "conv3_group", use_bias=False, **dtype)
        x = linear(x, third, "conv3", **dtype) + whole
        x = MaskedBatchNorm(EPS, dtype=self.dtype, name="norm2")(x, train=train)
        return linear(x, last, "conv4", **relu).max(-2)


class PointPosition(nn.Module):
    """Coordinates -> what is added to a token: linear, GELU, linear.

    Attributes:
        dim: of the token.
        dtype: of the matmul operands.
    """

    dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, centers: Array) -> Array:
        """float[B, N, 3] -> [B, N, D]."""
        x = linear(centers, self.dim, "fc1", dtype=self.dtype)
        return linear(x, self.dim, "fc2", dtype=self.dtype, before=lean.gelu)


class PointBlock(VariantBlock):
    """A block that adds the positions once more before it runs; they stay in the residual."""

    def __call__(self, x, branch_scale=None, allow=None, position=None, bias=None):
        """As of `VariantBlock`, with positions [B, N, D]."""
        return super().__call__(x + position.astype(x.dtype), branch_scale, allow, None, bias)


def scale_stack(size: PointSize, scale: int, drop_path: float, compute: Compute) -> Stack:
    """Blocks of a scale, without biases of query, key and value; their context is the positions.

    `drop_path` is the rate of the last block of all scales; it grows linearly from 0.
    """
    dim, depth, first = size.dims[scale], size.depths[scale], sum(size.depths[:scale])
    slope = drop_path / max(sum(size.depths) - 1, 1)
    rates = (slope * first, slope * (first + depth - 1))
    options = (EPS, compute.dtype, compute.attention)
    block = PointBlock(size.heads, 4 * dim, Variant(qkv_bias="none"), *options, parent=None)
    return Stack(block, depth, compute.scan, compute.remat, rates)


def init_stack(stack: Stack, dim: int):
    """A function of a key that gives the stack's parameters."""
    return lambda key: stack.init(key, dim, (jnp.zeros((1, stack.init_tokens, dim)),))


class PointEncoder(nn.Module):
    """All scales, from the finest.

    Attributes:
        size: widths, depths, heads.
        drop_path: rate of the last block of all; it grows linearly from 0.
        radius: for each scale how far a token sees, 0 = everything.
        compute: dtype, scan, remat, attention.
        norms: whether each scale has a norm for what leaves it.
    """

    size: PointSize
    drop_path: float = 0.0
    radius: tuple[float, ...] = ()
    compute: Compute = Compute()
    norms: bool = True

    def setup(self):
        size, dtype = self.size, self.compute.dtype
        scales = range(len(size.dims))
        self.embeds = [PointEmbed(_embed_widths(size, i), dtype) for i in scales]
        self.positions = [PointPosition(size.dims[i], dtype) for i in scales]
        self.blocks = [
            self.param(f"level{i}_blocks", init_stack(self.stack(i), size.dims[i])) for i in scales
        ]
        if self.norms:
            self.out_norms = [LayerNorm(EPS) for _ in scales]

    def stack(self, scale: int) -> Stack:
        """The blocks of a scale."""
        return scale_stack(self.size, scale, self.drop_path, self.compute)

    def __call__(
        self,
        levels: Sequence[PointLevel],
        valid: Sequence[Array] | None = None,
        *,
        train: bool,
        drop_noise: Array | None = None,
    ) -> list[Array]:
        """Encoded tokens of every scale, [B, R, D] each, after the norms if there are any.

        Args:
            levels: with the visible tokens first.
            valid: for each scale bool[B, R], see `masking.hierarchy.padded_split`; None = all G
                tokens are visible.
            train: batch norms by the statistics of the batch.
            drop_noise: float32[B, blocks, 2] for drop-path; None = none.
        """
        found, x, first = [], None, 0
        for i, level in enumerate(levels):
            groups = level.offsets if x is None else take(x, level.ids, smooth=True)
            x = constrain_batch(self.embeds[i](groups, train=train))
            there = None if valid is None else valid[i]
            own = slice(first, first := first + self.size.depths[i])
            noise = None if drop_noise is None else drop_noise[:, own]
            encoded = self._encode(i, x, level.centers, there, noise)
            found.append(encoded)
            x = encoded if there is None else _written_back(x, encoded, there)
        return [self.out_norms[i](y) for i, y in enumerate(found)] if self.norms else found

    def _encode(
        self, i: int, x: Array, centers: Array, valid: Array | None, noise: Array | None
    ) -> Array:
        """The blocks of a scale over its first R tokens."""
        if valid is not None:
            room = valid.shape[1]
            shown = lambda y: jnp.where(valid[..., None], y[:, :room], 0)  # noqa: E731
            x, centers = shown(x), shown(centers)
        bias = attention_bias(centers, valid, self.radius[i] if self.radius else 0.0)
        options = {"context": (self.positions[i](centers),), "bias": bias, "drop_noise": noise}
        return constrain_batch(self.stack(i)(self.blocks[i], x, **options)[0])


def _embed_widths(size: PointSize, i: int) -> tuple[int, int, int, int]:
    below, own = size.dims[i - 1], size.dims[i]
    return (below, below, own, own) if i else (128, 256, 512, own)


def _written_back(raw: Array, encoded: Array, valid: Array) -> Array:
    """The encoded tokens where they are visible, the raw ones elsewhere: [B, G, D]."""
    room = valid.shape[1]
    front = jnp.where(valid[..., None], encoded.astype(raw.dtype), raw[:, :room])
    return jnp.concatenate([front, raw[:, room:]], 1)


def attention_bias(centers: Array, valid: Array | None, radius: float) -> Array | None:
    """float32[B, 1, N, N], `BLOCKED` where a query must not look at a key; None = nowhere.

    Args:
        centers: float[B, N, 3] of the tokens.
        valid: bool[B, N]: padding neither looks nor is looked at; None = there is none.
        radius: keys at this distance or farther are blocked; 0 = none are.
    """
    blocked = None
    if valid is not None:
        blocked = ~(valid[:, :, None] & valid[:, None])
    if radius > 0:
        far = jnp.sqrt(squared_distances(centers, centers)) >= radius
        blocked = far if blocked is None else blocked | far
    return None if blocked is None else jnp.where(blocked, BLOCKED, 0.0)[:, None]


def visible_first(
    levels: Sequence[PointLevel], hidden: Sequence[Array], rooms: Sequence[int]
) -> tuple[tuple[PointLevel, ...], tuple[TokenSplit, ...], tuple[Array, ...]]:
    """The same hierarchy with the visible tokens of every scale in front.

    Nothing has to be moved inside the network then: visible tokens are a slice.

    Args:
        levels: the finest first.
        hidden: bool[B, G] of each scale.
        rooms: R of each scale, at least as many as are visible in any example.

    Returns:
        Levels, how their tokens were moved (cuts (R,)), and bool[B, R] where a visible one stands.
    """
    pairs = zip(hidden, rooms, strict=True)
    splits, valid = zip(*(padded_split(h, room=r) for h, r in pairs), strict=True)
    moved: list[PointLevel] = []
    for i, (level, split) in enumerate(zip(levels, splits, strict=True)):
        centers, ids = gather(level.centers, split.ids), gather(level.ids, split.ids)
        if i:
            places = splits[i - 1].inverse()
            ids = take(places[..., None], ids)[..., 0]
        offsets = jnp.take_along_axis(level.offsets, split.ids[..., None, None], axis=1)
        moved.append(PointLevel(centers, ids, offsets))
    return tuple(moved), splits, valid
