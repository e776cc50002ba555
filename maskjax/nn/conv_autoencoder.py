"""Masked convolutions in front of a transformer: the encoder of ConvMAE, and its autoencoder.

Gao, Ma, Li, Lin, Dai, Qiao, "ConvMAE: Masked Convolution Meets Masked Autoencoders", NeurIPS 2022
(MCMAE in MR-MAE), with the details of the official code. Two stages of convolutions whose masks
keep hidden cells out of every window, then blocks of attention over the visible cells only, to
which both stages' maps are added at the end.
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike

from maskjax.masking import TokenSet, TokenSplit, pyramid, tokens
from maskjax.nn import flops, lean
from maskjax.nn.block import Mlp
from maskjax.nn.decoder import Decoder
from maskjax.nn.dense import Dense
from maskjax.nn.initializers import Initializer
from maskjax.nn.masked_conv import MaskedConv
from maskjax.nn.norm import LayerNorm
from maskjax.nn.position import sincos_2d
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.vit import Compute, Size

CONV_EPS = 1e-5  # of the norms of the convolutions, which the code leaves at torch's default
WINDOW = 5
# U(-a, a) with a = fan_in ** -0.5: torch's for a convolution.
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@dataclasses.dataclass(frozen=True)
class ConvSize:
    """Widths, blocks, MLP ratios of the three stages, strides in front of them, heads of the last.

    The defaults are ConvMAE-B's (official code).
    """

    dims: tuple[int, int, int] = (256, 384, 768)
    depths: tuple[int, int, int] = (2, 2, 11)
    patches: tuple[int, int, int] = (4, 2, 2)
    mlp_ratios: tuple[float, float, float] = (4.0, 4.0, 4.0)
    heads: int = 12

    @property
    def last(self) -> Size:
        """The transformer."""
        return Size(self.dims[2], self.depths[2], self.heads, self.mlp_ratios[2])

    @property
    def strides(self) -> tuple[int, int, int]:
        """Pixels that a position of each stage stands for, in each direction."""
        first, second, third = self.patches
        return first, first * second, first * second * third

    def mlp_hidden(self, stage: int) -> int:
        """Hidden width of the MLPs of stage 0, 1 or 2."""
        return int(self.dims[stage] * self.mlp_ratios[stage] + 1e-6)


class ConvBlock(nn.Module):
    """x + conv2(dwconv(valid * conv1(norm1(x)))), then x + mlp(norm2(x)).

    `conv1`, `conv2` and the MLP look at one position each; only the 5 x 5 depth-wise convolution
    looks around, so it alone needs the mask.

    Attributes:
        mlp_hidden: hidden width of the MLP.
        dtype: of matmul operands and of the residual stream.
    """

    mlp_hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None) -> Array:
        """x [B, H, W, C], valid bool[B, H, W] (True = visible; None = all) -> [B, H, W, C].

        What comes out at hidden positions means nothing.
        """
        channels, options = x.shape[-1], {"dtype": self.dtype, "kernel_init": torch_uniform}
        y = LayerNorm(CONV_EPS, self.dtype, name="norm1")(x)
        y = Dense(channels, **options, name="conv1")(y)
        conv = MaskedConv(channels, WINDOW, groups=channels, dtype=self.dtype, name="dwconv")
        y, _ = conv(y, valid)
        x = x + Dense(channels, **options, name="conv2")(y)
        y = LayerNorm(CONV_EPS, self.dtype, name="norm2")(x)
        return constrain_batch(x + Mlp(self.mlp_hidden, **options, name="mlp")(y))


class CellEmbed(nn.Module):
    """gelu(norm(proj(cells))): a convolution whose stride is its size, as a matrix product.

    Attributes:
        features: output channels.
        dtype: of the operands.
        first: the first layer of the network, see `nn.tract`.
        kernel_init: see `Dense`.
    """

    features: int
    dtype: DTypeLike = jnp.float32
    first: bool = False
    kernel_init: Initializer | None = torch_uniform

    @nn.compact
    def __call__(self, cells: Array) -> Array:
        """Cells [..., p, q, C] -> [..., features]."""
        options = {"dtype": self.dtype, "kernel_init": self.kernel_init, "first": self.first}
        x = Dense(self.features, 3, **options, name="proj")(cells)
        return lean.gelu(LayerNorm(CONV_EPS, self.dtype, name="norm")(x)).astype(self.dtype)


class ConvEncoder(nn.Module):
    """embed1, stage1_{i}, embed2, stage2_{i}, embed3, embed4, blocks, fuse1, fuse2, norm.

    Attributes:
        size: widths, depths, strides.
        grid: (rows, columns) of the cells of the last stage.
        compute: dtype, scan, attention, remat (of the convolutions' blocks too).
        eps: of the transformer's norms and the last one.
    """

    size: ConvSize
    grid: tuple[int, int]
    compute: Compute = Compute()
    eps: float = 1e-6

    def setup(self):
        size, dtype = self.size, self.compute.dtype
        block = ConvBlock if self.compute.remat == "none" else nn.remat(ConvBlock)
        self.embed1 = CellEmbed(size.dims[0], dtype, first=True)
        self.embed2 = CellEmbed(size.dims[1], dtype)
        self.embed3 = CellEmbed(size.dims[2], dtype, kernel_init=None)  # Xavier's, as the code
        self.embed4 = Dense(size.dims[2], dtype=dtype)
        for stage in (1, 2):
            options = (size.mlp_hidden(stage - 1), dtype)
            made = [
                block(*options, name=f"stage{stage}_{i}") for i in range(size.depths[stage - 1])
            ]
            setattr(self, f"stage{stage}", made)
            fuse = Dense(size.dims[2], 3, dtype=dtype, kernel_init=torch_uniform)
            setattr(self, f"fuse{stage}", fuse)
        self.stack = self.compute.stack(size.last, eps=self.eps)
        self.blocks = self.param("blocks", self.stack.init, size.dims[2])
        self.norm = LayerNorm(self.eps)

    def __call__(
        self, image: Array, ids: Array | None = None, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, Array]]:
        """Images [B, H, W, C] -> latent float32[B, K, D] of the visible cells, {tap: activation}.

        Args:
            image: standardised.
            ids: int[B, K], the cells that are visible; None = all, in raster order.
            taps: of the block stack, see `Stack`.
        """
        valid, pick = self._masks(ids)
        first = self.embed1(cells(image.astype(self.compute.dtype), self.size.patches[0]))
        for block in self.stage1:
            first = block(first, valid[0])
        second = self.embed2(cells(first, self.size.patches[1]))
        for block in self.stage2:
            second = block(second, valid[1])
        # Whole cells are picked before the products, which then have visible cells only.
        first = pick(cells(first, self.size.patches[1] * self.size.patches[2]))
        second = pick(cells(second, self.size.patches[2]))
        table = jnp.asarray(sincos_2d(self.grid, self.size.dims[2]))
        positions = table if ids is None else jnp.take(table, ids, axis=0)
        x = self.embed4(self.embed3(second)) + positions.astype(self.compute.dtype)
        x, seen = self.stack(self.blocks, constrain_batch(x), taps=taps)
        x = x + self.fuse1(first) + self.fuse2(second)
        return constrain_batch(self.norm(x)), seen

    def _masks(self, ids: Array | None) -> tuple[tuple, Callable[[Array], Array]]:
        """Visible positions of both stages, and what takes the visible cells of maps of cells."""
        flat = lambda x: rearrange(x, "b h w p q c -> b (h w) p q c")  # noqa: E731
        if ids is None:
            return (None, None), flat
        valid = stage_masks(ids, self.grid, self.size)

        def pick(x: Array) -> Array:
            chosen = rearrange(flat(x), "b n p q c -> b n (p q c)")
            # Activations: the gradient of `take` would be a scatter.
            chosen = constrain_batch(tokens.gather(chosen, ids, method="onehot"))
            return chosen.reshape(*chosen.shape[:2], *x.shape[3:])

        return valid, pick


def cells(maps: Array, side: int) -> Array:
    """Maps [B, H, W, C] -> [B, H / side, W / side, side, side, C]."""
    return rearrange(maps, "b (h p) (w q) c -> b h w p q c", p=side, q=side)


def stage_masks(ids: Array, grid: tuple[int, int], size: ConvSize) -> tuple[Array, Array]:
    """What is visible at the resolutions of the two stages, from visible cells int[B, K].

    Returns:
        bool[B, H / stride, W / stride], True = visible, for each.
    """
    visible = TokenSet(ids, jnp.ones(ids.shape, bool)).members(grid[0] * grid[1])
    visible = rearrange(visible, "b (h w) -> b h w", h=grid[0])
    _, second, third = size.patches
    return pyramid.enlarge(visible, second * third), pyramid.enlarge(visible, third)


class ConvAutoencoder(nn.Module):
    """`ConvEncoder` and MAE's decoder, without class tokens.

    Attributes:
        encoder_size: of the encoder.
        decoder_size: width, depth, heads.
        grid: (rows, columns) of cells.
        patch_dim: P, values predicted for a cell.
        compute: dtype, scan, remat, attention.
        eps: of the norms but those of the convolutions.
    """

    encoder_size: ConvSize
    decoder_size: Size
    grid: tuple[int, int]
    patch_dim: int
    compute: Compute
    eps: float = 1e-6

    def setup(self):
        self.encoder = ConvEncoder(self.encoder_size, self.grid, self.compute, self.eps)
        shared = (self.grid, self.patch_dim, self.compute, self.eps)
        self.decoder = Decoder(self.decoder_size, *shared, cls=False)

    def __call__(
        self, image: Array, split: TokenSplit, *, taps: Sequence[str] = ()
    ) -> tuple[Array, dict[str, dict[str, Array]]]:
        """Images [B, H, W, C] -> prediction for the hidden cells [B, N - K, P], taps.

        Arguments and results are those of `Autoencoder`, but for the whole image.
        """
        inner = [tap for tap in taps if tap not in ("all", "input")]
        latent, encoder = self.encoder(image, split.visible_ids, taps=inner)
        prediction, decoder = self.decoder(latent, split, taps=taps)
        return prediction, {"encoder": {**encoder, "latent": latent}, "decoder": decoder}

    def encode(self, image: Array) -> Array:
        """Whole images [B, H, W, C] -> latent float32[B, N, D]."""
        return self.encoder(image)[0]


def layer_ids(depth: int) -> Callable[[str], int | tuple[int, ...]]:
    """As `vit.layer_ids`: all convolutions are 0, as in ConvMAE's fine-tuning."""

    def layer(path: str) -> int | tuple[int, ...]:
        if path.startswith("encoder/blocks/"):
            return tuple(range(1, depth + 1))
        inside = path.startswith("encoder/") and not path.startswith("encoder/norm/")
        return 0 if inside else depth + 1

    return layer


def forward_flops(model: ConvAutoencoder, num_visible: int) -> int:
    """Matmul FLOPs of the loss for one image; the convolutions run on all positions."""
    size, decoder = model.encoder_size, model.decoder_size
    num_tokens, dims = model.grid[0] * model.grid[1], size.dims
    total, channels = 0, model.patch_dim // size.strides[2] ** 2
    for stage, width in enumerate(dims[:2]):
        positions = num_tokens * (size.strides[2] // size.strides[stage]) ** 2
        total += flops.linear(positions, size.patches[stage] ** 2 * channels, width)
        block = 2 * flops.linear(positions, width, width)
        block += flops.conv(positions, WINDOW**2, 1, width)
        block += 2 * flops.linear(positions, width, size.mlp_hidden(stage))
        total += size.depths[stage] * block
        channels = width
        cell = (size.strides[2] // size.strides[stage]) ** 2 * width
        total += flops.linear(num_visible, cell, dims[2])  # fuse
    total += flops.linear(num_visible, size.patches[2] ** 2 * dims[1], dims[2])  # embed3
    total += flops.linear(num_visible, dims[2], dims[2])  # embed4
    return (
        total
        + flops.transformer(num_visible, size.last)
        + flops.linear(num_visible, dims[2], decoder.dim)
        + flops.transformer(num_tokens, decoder)
        + flops.linear(num_tokens - num_visible, decoder.dim, model.patch_dim)
    )
