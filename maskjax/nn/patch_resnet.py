"""The first stages of a ResNet as a network of small patches: one vector a patch (Selfie).

In the post-activation form its parameters are those of `MaskedResNet` without the later stages, so
the names of torchvision fit it.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.masking.windows import max_in_window
from maskjax.nn import flops
from maskjax.nn.masked_conv import MaskedBatchNorm, MaskedConv
from maskjax.nn.masked_resnet import STEM_POOL, Bottleneck, ConvNorm, kaiming


class PreactBottleneck(nn.Module):
    """Norm and ReLU before each convolution (He et al. 2016, "Identity mappings").

    Attributes:
        width: channels of the first two convolutions; the third has width * expansion.
        stride: of the 3 x 3 convolution and the shortcut.
        expansion, eps, dtype: as of `Bottleneck`.
    """

    width: int
    stride: int = 1
    expansion: int = 4
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, H, W, C] -> [B, H', W', width * expansion]."""
        features = self.width * self.expansion

        def active(x: Array, name: str) -> Array:
            norm = MaskedBatchNorm(self.eps, dtype=self.dtype, name=name)
            return jax.nn.relu(norm(x, train=train))

        y = active(x, "bn1")
        shortcut = x
        if self.stride > 1 or x.shape[-1] != features:
            shortcut = self._conv(y, features, 1, self.stride, "shortcut")
        y = self._conv(y, self.width, 1, 1, "conv1")
        y = self._conv(active(y, "bn2"), self.width, 3, self.stride, "conv2")
        return shortcut + self._conv(active(y, "bn3"), features, 1, 1, "conv3")

    def _conv(self, x: Array, features: int, size: int, stride: int, name: str) -> Array:
        return MaskedConv(
            features,
            size,
            stride,
            size // 2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=kaiming,
            name=name,
        )(x)[0]


class PatchResNet(nn.Module):
    """3 x 3 stem, stages of bottlenecks, mean over the positions.

    Attributes:
        stem: channels of the stem.
        widths, blocks: bottleneck width and number of blocks of each stage; the first stage has
            stride 1, the others 2.
        expansion: of the bottlenecks.
        preact: norm and ReLU before the convolutions, none after the stem; else torchvision's form.
        stem_pool: 3 x 3 max pool of stride 2 behind the stem, for large patches.
        eps, dtype: of the layers.
    """

    stem: int = 64
    widths: Sequence[int] = (64, 128, 256)
    blocks: Sequence[int] = (3, 4, 6)
    expansion: int = 4
    preact: bool = True
    stem_pool: bool = False
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @property
    def dim(self) -> int:
        """Width of the result."""
        return self.widths[-1] * self.expansion

    def flops(self, patch: tuple[int, int], channels: int) -> int:
        """Of one patch (height, width) of so many channels, forward, by `nn.flops`."""
        height, width = patch
        total = flops.conv(height * width, 9, channels, self.stem)
        if self.stem_pool:
            height, width = -(-height // 2), -(-width // 2)
        features = self.stem
        for stage, (inner, number) in enumerate(zip(self.widths, self.blocks, strict=True)):
            outer = inner * self.expansion
            for i in range(number):
                total += flops.conv(height * width, 1, features, inner)
                if stage and i == 0:
                    height, width = -(-height // 2), -(-width // 2)
                positions = height * width
                total += flops.conv(positions, 9, inner, inner)
                total += flops.conv(positions, 1, inner, outer)
                if i == 0 and (stage or features != outer):
                    total += flops.conv(positions, 1, features, outer)  # the shortcut
                features = outer
        return total

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Patches float[B, p, p, C], standardised -> float32[B, D].

        The collection "batch_stats" holds running statistics; `train` normalises by those of all
        patches of the batch.
        """
        shared = {"eps": self.eps, "dtype": self.dtype}
        if self.preact:
            options = {"use_bias": False, "dtype": self.dtype, "kernel_init": kaiming}
            x, _ = MaskedConv(self.stem, 3, 1, 1, **options, first=True, name="stem")(x)
        else:
            stem = ConvNorm(self.stem, 3, **shared, first=True, name="stem")
            x = jax.nn.relu(stem(x, None, train=train)[1][0])
        if self.stem_pool:
            x = max_in_window(x, STEM_POOL)
        for stage, (width, number) in enumerate(zip(self.widths, self.blocks, strict=True), 1):
            for i in range(number):
                stride = 2 if stage > 1 and i == 0 else 1
                options = {"expansion": self.expansion, **shared, "name": f"stage{stage}_{i}"}
                if self.preact:
                    x = PreactBottleneck(width, stride, **options)(x, train=train)
                else:
                    (x, _), _ = Bottleneck(width, stride, **options)(x, None, train=train)
        return x.astype(jnp.float32).mean((1, 2))
