"""Bottleneck ResNet (He et al. 2016, stride in the 3 x 3 layer) that can run on a visible region.

The style of its layers says how: "sparse" for masked pretraining (SparK), "neighbour" (with its
ablations "zero" and "partial") for layer masking of a trained network. The parameters are those of
the plain network, which it is without a mask.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.masking.pool import masked_global_pool, masked_max_pool
from maskjax.masking.windows import max_in_window, window
from maskjax.nn.block import drop_scales
from maskjax.nn.dense import Dense
from maskjax.nn.masked_conv import Masked, MaskedBatchNorm, MaskedConv, Style, join_masked
from maskjax.nn.sharding import constrain_batch

STEM_POOL = window(3, stride=2, padding=1)
kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm: `conv` and `bn`, kept apart in `seen`.

    Attributes:
        features, size, stride: of the convolution; the padding is size // 2.
        style: see `MaskedConv`.
        eps: of the norm.
        dtype: of operands and results.
        first: see `MaskedConv`.
    """

    features: int
    size: int = 1
    stride: int = 1
    style: Style = "sparse"
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32
    first: bool = False

    @nn.compact
    def __call__(self, x: Array, valid: Array | None, *, train: bool) -> tuple[Masked, Masked]:
        """[B, H, W, C], bool[B, H, W] -> (convolved, valid'), (normalised, valid')."""
        conv = MaskedConv(
            self.features,
            self.size,
            self.stride,
            self.size // 2,
            use_bias=False,
            style=self.style,
            dtype=self.dtype,
            kernel_init=kaiming,
            first=self.first,
            name="conv",
        )
        convolved, valid = conv(x, valid)
        norm = MaskedBatchNorm(self.eps, dtype=self.dtype, name="bn")
        return (convolved, valid), (norm(convolved, valid, train=train), valid)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut: layer1..3 and, where needed, shortcut.

    Attributes:
        width: channels of the first two convolutions; the third has width * expansion.
        stride: of the 3 x 3 convolution and the shortcut.
        expansion: see `width`.
        style, eps, dtype: of the layers.
    """

    width: int
    stride: int = 1
    expansion: int = 4
    style: Style = "sparse"
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, valid: Array | None, branch_scale: Array | None = None, *, train: bool
    ) -> tuple[Masked, dict[str, Masked]]:
        """[B, H, W, C], bool[B, H, W] -> (result, valid') and {"conv2": of the 3 x 3 layer}.

        `branch_scale` float32[B] multiplies the branch of each example (drop-path).
        """
        features = self.width * self.expansion
        shared = {"style": self.style, "eps": self.eps, "dtype": self.dtype}
        _, (y, seen) = ConvNorm(self.width, **shared, name="layer1")(x, valid, train=train)
        middle = ConvNorm(self.width, 3, self.stride, **shared, name="layer2")
        convolved, (y, seen) = middle(jax.nn.relu(y), seen, train=train)
        last = ConvNorm(features, **shared, name="layer3")
        _, branch = last(jax.nn.relu(y), seen, train=train)
        shortcut = (x, valid)
        if self.stride > 1 or x.shape[-1] != features:
            other = ConvNorm(features, 1, self.stride, **shared, name="shortcut")
            _, shortcut = other(x, valid, train=train)
        if branch_scale is not None:
            scale = branch_scale.astype(branch[0].dtype)[:, None, None, None]
            branch = branch[0] * scale, branch[1]
        y, seen = join_masked(branch, shortcut)
        return (jax.nn.relu(y), seen), {"conv2": convolved}


class MaskedResNet(nn.Module):
    """stem, stage{s}_{b} (s and b from 1 and 0), head.

    Attributes:
        widths: bottleneck width of each stage; the first stage has stride 1, the others 2.
        blocks: number of blocks of each stage.
        num_classes: of the classifier; 0 = none.
        stem: channels of the 7 x 7 stem.
        expansion: of the blocks.
        stem_stride, stem_pool: stride of the stem, and whether a 3 x 3 max pool of stride 2 follows
            it; small images want 1 or no pool.
        drop_path: rate of the last block; it grows linearly from 0.
        style, eps, dtype: of the layers.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    blocks: Sequence[int] = (3, 4, 6, 3)
    num_classes: int = 1000
    stem: int = 64
    expansion: int = 4
    stem_stride: int = 2
    stem_pool: bool = True
    drop_path: float = 0.0
    style: Style = "sparse"
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: Array,
        valid: Array | None = None,
        *,
        train: bool = False,
        drop_noise: Array | None = None,
    ) -> tuple[Array, dict[str, Masked]]:
        """images float[B, H, W, C] (normalised), valid bool[B, H, W] -> logits, what was seen.

        Args:
            images, valid: the input; None = everything is visible.
            train: see `MaskedBatchNorm`.
            drop_noise: float32[B, number of all blocks] in [0, 1) for drop-path; None = none.

        Returns:
            float32[B, num_classes] (the pooled features, mean of the visible positions, without a
            classifier) and {"stem_conv", "stem_norm", "stem", "pool", "stage1_0_conv2", "stage1",
            ...: (activation, valid), "features": (pooled, None)}.
        """
        shared = {"style": self.style, "eps": self.eps, "dtype": self.dtype}
        stem = ConvNorm(self.stem, 7, self.stem_stride, **shared, first=True, name="stem")
        scales = None if drop_noise is None else drop_scales(drop_noise, self.drop_path)
        seen = {}
        seen["stem_conv"], seen["stem_norm"] = stem(images, valid, train=train)
        seen["stem"] = (jax.nn.relu(seen["stem_norm"][0]), seen["stem_norm"][1])
        seen["pool"] = now = self._max_pool(*seen["stem"]) if self.stem_pool else seen["stem"]
        index = 0
        for stage, (width, number) in enumerate(zip(self.widths, self.blocks, strict=True), 1):
            for i in range(number):
                name, stride = f"stage{stage}_{i}", 2 if stage > 1 and i == 0 else 1
                block = Bottleneck(width, stride, self.expansion, **shared, name=name)
                scale = None if scales is None else scales[:, index]
                (x, where), inside = block(*now, scale, train=train)
                now, index = (constrain_batch(x), where), index + 1
                seen |= {f"{name}_{key}": value for key, value in inside.items()}
            seen[f"stage{stage}"] = now
        x, visible = now
        features = x.mean((1, 2)) if visible is None else masked_global_pool(x, visible)
        seen["features"] = (features.astype(jnp.float32), None)
        if not self.num_classes:
            return seen["features"][0], seen
        return Dense(self.num_classes, name="head")(seen["features"][0]), seen

    def _max_pool(self, x: Array, valid: Array | None) -> Masked:
        if valid is None:
            return max_in_window(x, STEM_POOL), None
        rule = "centre" if self.style == "sparse" else "any"
        return masked_max_pool(x, valid, window=STEM_POOL, rule=rule, hidden="zero")
