"""From maps with holes to dense maps, and a light U-Net that draws an image of them (SparK).

Tian et al., "Designing BERT for Convolutional Networks", ICLR 2023, with the sizes of the official
code.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from maskjax.masking.conv import densify
from maskjax.nn import initializers
from maskjax.nn.masked_conv import Masked, MaskedBatchNorm, MaskedConv, MaskedLayerNorm
from maskjax.nn.sharding import constrain_batch

normal = nn.initializers.normal(0.02)


class Densify(nn.Module):
    """Norm of the visible positions, a learned vector at the others, a dense convolution.

    Attributes:
        width: channels of the result.
        size: side of the convolution; 0 = there is none.
        batch_norm: batch norm (ResNet), else layer norm over the channels (ConvNeXt).
        dtype: of operands and results.
    """

    width: int
    size: int = 3
    batch_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, valid: Array, *, train: bool) -> Array:
        """[B, H, W, C], bool[B, H, W] -> [B, H, W, width]."""
        if self.batch_norm:
            x = MaskedBatchNorm(dtype=self.dtype, name="norm")(x, valid, train=train)
        else:
            x = MaskedLayerNorm(dtype=self.dtype, name="norm")(x, valid)
        token = self.param("token", initializers.truncated(0.02), x.shape[-1:])
        x = densify(x, valid, token)
        if not self.size:
            return x
        # Dense: what was filled in must mix with its neighbours.
        return MaskedConv(self.width, self.size, dtype=self.dtype, name="proj")(x)[0]


class UpConv(nn.Module):
    """Transposed 4 x 4 convolution of stride 2 that doubles the sides: kernel [4, 4, C, D], bias.

    The kernel is that of the convolution over the stretched map, turned by 180 degrees as seen from
    torch's.

    Attributes:
        features: D.
        dtype: of operands and results.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, 2 H, 2 W, D]."""
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", init, (4, 4, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.float32,
        )
        return (y + bias).astype(self.dtype)


class UpBlock(nn.Module):
    """Doubles the sides, halves the channels: up, conv1, norm1, ReLU6, conv2, norm2.

    Attributes:
        train: see `MaskedBatchNorm`; an attribute, since a call may be recomputed.
        dtype: of operands and results.
    """

    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, 2 H, 2 W, C / 2]."""
        channels = x.shape[-1]
        x = UpConv(channels, self.dtype, name="up")(x)
        x = self._conv_norm(x, channels, "1")
        return self._conv_norm(nn.relu6(x), channels // 2, "2")

    def _conv_norm(self, x: Array, features: int, number: str) -> Array:
        options = {"use_bias": False, "dtype": self.dtype, "kernel_init": normal}
        x, _ = MaskedConv(features, 3, **options, name=f"conv{number}")(x)
        norm = MaskedBatchNorm(dtype=self.dtype, name=f"norm{number}")
        return norm(x, train=self.train)


class LightDecoder(nn.Module):
    """up0, up1, ..., proj: each block doubles the sides, and gets one more map added before it.

    Attributes:
        width: channels of the first block's input; halved by each block.
        num_blocks: log2 of the stride of the deepest map.
        channels: of the image.
        remat: recomputes each block in the backward pass.
        dtype: of operands and results.
    """

    width: int
    num_blocks: int
    channels: int
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Array], *, train: bool) -> Array:
        """Maps [B, h, w, width], [B, 2 h, 2 w, width / 2], ... -> float32[B, H, W, channels].

        The maps are the deepest first, at most one a block.
        """
        block_class = nn.remat(UpBlock) if self.remat else UpBlock
        x = 0
        for k in range(self.num_blocks):
            x = x + maps[k] if k < len(maps) else x
            x = constrain_batch(block_class(train, self.dtype, name=f"up{k}")(x))
        options = {"kernel_init": normal, "bias_init": nn.initializers.zeros}
        image, _ = MaskedConv(self.channels, 1, dtype=self.dtype, **options, name="proj")(x)
        return image.astype(jnp.float32)


class Densified(nn.Module):
    """A `Densify` for each stage of a backbone, deepest first: densify0, densify1, ...

    Attributes:
        width: of the deepest result; each later one has half of it.
        batch_norm, dtype: see `Densify`.
    """

    width: int
    batch_norm: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Masked], *, train: bool) -> list[Array]:
        """(x [B, H, W, C], valid) of each stage, deepest first -> dense maps.

        The first convolution is 1 x 1, and left out where its map has that width already.
        """
        dense = []
        for i, (x, valid) in enumerate(maps):
            width = self.width >> i
            size = 3 if i else int(x.shape[-1] != width)
            layer = Densify(width, size, self.batch_norm, self.dtype, name=f"densify{i}")
            dense.append(layer(x, valid, train=train))
        return dense
