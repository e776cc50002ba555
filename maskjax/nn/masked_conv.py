"""Convolution and norm layers that carry a valid mask: parameters around `maskjax.masking`.

x [B, H, W, C] with channels last, valid bool[B, H, W], True = visible. With valid=None each layer
is the ordinary dense one with the same parameters, so a backbone pretrained under masks is
fine-tuned as it is.
"""

import functools
import math
from typing import Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.masking.conv import conv, masked_conv
from maskjax.masking.conv_norm import (
    masked_batch_norm,
    masked_layer_norm,
    masked_moments,
    update_running,
)
from maskjax.masking.neighbour import join, layer_conv
from maskjax.masking.windows import Padding, Pair, Window, window
from maskjax.nn import tract
from maskjax.nn.initializers import Initializer, symmetric_uniform

Style = Literal["sparse", "neighbour", "zero", "partial"]
Masked = tuple[Array, Array | None]


class MaskedConv(nn.Module):
    """Convolution of the visible part; kernel [rows, columns, C / groups, features] and bias.

    Attributes:
        features: output channels.
        size, stride, padding, dilation: of the window, see `maskjax.masking.windows.window`.
        groups: channel groups; `features` for a depth-wise convolution.
        use_bias: adds a bias.
        style: "sparse": the mask does not grow (`masked_conv`, SparK); "neighbour", "zero",
            "partial": it grows by the window (`layer_conv`, layer masking and partial convolution).
        dtype: of the operands and the result; parameters and accumulators are float32.
        kernel_init, bias_init: default torch's, U(-a, a) with a = fan_in ** -0.5, for both.
        first: the first layer of a network, which without a mask may have TrAct's gradient (see
            `nn.tract`); not with groups or dilation.
    """

    features: int
    size: Pair = 3
    stride: Pair = 1
    padding: Padding = "same"
    dilation: Pair = 1
    groups: int = 1
    use_bias: bool = True
    style: Style = "sparse"
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    first: bool = False

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None) -> Masked:
        """[B, H, W, C] and bool[B, H, W] -> [B, H', W', features] and bool[B, H', W'] (or None)."""
        place = window(self.size, stride=self.stride, padding=self.padding, dilation=self.dilation)
        shape = (*place.size, x.shape[-1] // self.groups, self.features)
        uniform = symmetric_uniform(math.prod(shape[:3]) ** -0.5)
        kernel = self.param("kernel", self.kernel_init or uniform, shape)
        bias_init = self.bias_init or uniform
        bias = self.param("bias", bias_init, (self.features,)) if self.use_bias else None
        x, options = x.astype(self.dtype), {"window": place, "groups": self.groups}
        if valid is None:
            layer = functools.partial(_conv, place, self.groups)
            plain = self.groups > 1 or place.dilation != (1, 1) or not self.first
            if plain:
                return layer(x, kernel, bias), None
            return tract.apply(layer, functools.partial(unfold, place), x, kernel, bias), None
        if self.style == "sparse":
            return masked_conv(x, valid, kernel, bias, **options)
        return layer_conv(x, valid, kernel, bias, fill=self.style, **options)


def _conv(place: Window, groups: int, x: Array, kernel: Array, bias: Array | None) -> Array:
    return conv(x, kernel, bias, window=place, groups=groups)


def unfold(place: Window, x: Array) -> Array:
    """x [B, H, W, C] -> [B H' W', rows, columns, C]: what the window sees at each place."""
    patches = jax.lax.conv_general_dilated_patches(
        x,
        place.size,
        place.stride,
        place.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    rows, columns = place.size
    return einops.rearrange(patches, "b h w (c p q) -> (b h w) p q c", p=rows, q=columns)


class MaskedBatchNorm(nn.Module):
    """Batch norm over the visible positions of the whole batch; 0 elsewhere.

    Parameters scale and bias [C]; running mean and var [C] in the collection "batch_stats".

    Attributes:
        eps: added to the variance, 1e-5 in torch.
        momentum: share of the new batch in the running statistics.
        axis_name: mesh axes that hold the batch, for use inside `shard_map`; inside `jit` the
            statistics are global as they are.
        dtype: of the result.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    axis_name: str | tuple[str, ...] | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None, *, train: bool) -> Array:
        """x [..., C], valid bool[...] -> [..., C].

        Args:
            x, valid: values and mask; None = everything is visible.
            train: normalise by the statistics of the batch, and update the running ones where
                "batch_stats" is mutable; else normalise by the running ones.
        """
        valid = jnp.ones(x.shape[:-1], bool) if valid is None else valid
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:])
        var = self.variable("batch_stats", "var", jnp.ones, x.shape[-1:])
        moments = (mean.value, var.value)
        if train:
            found = masked_moments(x, valid, axis_name=self.axis_name)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                running = update_running(moments, found, momentum=self.momentum)
                mean.value, var.value = running
            moments = found[:2]
        return masked_batch_norm(x.astype(self.dtype), valid, *moments, scale, bias, eps=self.eps)


class MaskedLayerNorm(nn.Module):
    """Layer norm over the channels at visible positions; 0, not the bias, elsewhere.

    Attributes:
        eps: added to the variance, 1e-6 in ConvNeXt.
        dtype: of the result.
    """

    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None) -> Array:
        """x [..., C], valid bool[...] (None = everything) -> [..., C]."""
        valid = jnp.ones(x.shape[:-1], bool) if valid is None else valid
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return masked_layer_norm(x.astype(self.dtype), valid, scale, bias, eps=self.eps)


def join_masked(branch: Masked, shortcut: Masked) -> Masked:
    """The sum of two (x [B, H, W, C], valid) where both are valid; None = everywhere."""
    if branch[1] is None or shortcut[1] is None:
        return branch[0] + shortcut[0], None
    return join(branch, shortcut)
