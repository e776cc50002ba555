"""ConvNeXt (Liu et al. 2022) that can run on a visible region.

As of `masked_resnet`: the style of its layers says how, the parameters are those of the plain
network, and without a mask it is that network.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.masking.conv import hide
from maskjax.masking.pool import masked_global_pool
from maskjax.nn.block import Mlp, drop_scales
from maskjax.nn.dense import Dense
from maskjax.nn.masked_conv import Masked, MaskedConv, MaskedLayerNorm, Style, join_masked
from maskjax.nn.norm import LayerNorm
from maskjax.nn.sharding import constrain_batch

normal = nn.initializers.normal(0.02)


class ConvNeXtBlock(nn.Module):
    """7 x 7 depth-wise convolution, norm, MLP, channel factors: dwconv, norm, mlp, scale.

    Attributes:
        layer_scale: where the channel factors start; 0 = there are none.
        style, eps, dtype: of the layers.
    """

    layer_scale: float = 1e-6
    style: Style = "sparse"
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, valid: Array | None, branch_scale: Array | None = None) -> Masked:
        """[B, H, W, C], bool[B, H, W], float32[B] (drop-path) -> (result, valid)."""
        channels = x.shape[-1]
        conv = MaskedConv(
            channels,
            7,
            groups=channels,
            style=self.style,
            dtype=self.dtype,
            kernel_init=normal,
            bias_init=nn.initializers.zeros,
            name="dwconv",
        )
        y, seen = conv(x, valid)
        y = MaskedLayerNorm(self.eps, self.dtype, name="norm")(y, seen)
        y = Mlp(4 * channels, self.dtype, kernel_init=normal, name="mlp")(y)
        if self.layer_scale:
            start = nn.initializers.constant(self.layer_scale)
            y = y * self.param("scale", start, (channels,)).astype(y.dtype)
        # The biases of the MLP would show where the hidden region is.
        y = y if seen is None else hide(y, seen)
        if branch_scale is not None:
            y = y * branch_scale.astype(y.dtype)[:, None, None, None]
        return join_masked((y, seen), (x, valid))


class MaskedConvNeXt(nn.Module):
    """stem, stem_norm, down{s}_norm, down{s} (s from 2), stage{s}_{b} (s and b from 1 and 0), head.

    Attributes:
        widths, blocks: channels and number of blocks of each stage.
        num_classes: of the classifier; 0 = none.
        patch: side and stride of the first convolution; the later ones have 2.
        layer_scale: see `ConvNeXtBlock`.
        final_norm: a norm after pooling.
        drop_path: rate of the last block; it grows linearly from 0.
        remat: recomputes each block in the backward pass.
        style, eps, dtype: of the layers.
    """

    widths: Sequence[int] = (96, 192, 384, 768)
    blocks: Sequence[int] = (3, 3, 9, 3)
    num_classes: int = 1000
    patch: int = 4
    layer_scale: float = 1e-6
    final_norm: bool = True
    drop_path: float = 0.0
    remat: bool = False
    style: Style = "sparse"
    eps: float = 1e-6
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
            train: without effect, there are no running statistics.
            drop_noise: float32[B, number of all blocks] in [0, 1) for drop-path; None = none.

        Returns:
            float32[B, num_classes] (the pooled features without a classifier) and {"stem",
            "stage1", ...: (activation, valid), "features": (pooled, None)}.
        """
        scales = None if drop_noise is None else drop_scales(drop_noise, self.drop_path)
        block_class = nn.remat(ConvNeXtBlock) if self.remat else ConvNeXtBlock
        now, seen, index = (images, valid), {}, 0
        for stage, (width, number) in enumerate(zip(self.widths, self.blocks, strict=True), 1):
            now = self._reduced(now, stage, width)
            if stage == 1:
                seen["stem"] = now
            for i in range(number):
                options = (self.layer_scale, self.style, self.eps, self.dtype)
                block = block_class(*options, name=f"stage{stage}_{i}")
                x, where = block(*now, None if scales is None else scales[:, index])
                now, index = (constrain_batch(x), where), index + 1
            seen[f"stage{stage}"] = now
        x, visible = now
        features = x.astype(jnp.float32).mean((1, 2))
        features = features if visible is None else masked_global_pool(x, visible)
        if self.final_norm:
            features = LayerNorm(self.eps, name="norm")(features)
        seen["features"] = (features.astype(jnp.float32), None)
        if not self.num_classes:
            return seen["features"][0], seen
        head = Dense(self.num_classes, kernel_init=normal, name="head")
        return head(seen["features"][0]), seen

    def _reduced(self, now: Masked, stage: int, width: int) -> Masked:
        """The convolution in front of a stage, and its norm: after the first, before the others."""
        name, side = ("stem", self.patch) if stage == 1 else (f"down{stage}", 2)
        norm = MaskedLayerNorm(self.eps, self.dtype, name=f"{name}_norm")
        conv = MaskedConv(
            width,
            side,
            side,
            0,
            style=self.style,
            dtype=self.dtype,
            kernel_init=normal,
            bias_init=nn.initializers.zeros,
            first=stage == 1,
            name=name,
        )
        if stage == 1:
            x, valid = conv(*now)
            return norm(x, valid), valid
        return conv(norm(*now), now[1])
