"""The discrete VAE of DALL-E (Ramesh et al. 2021, appendix A): images to tokens and back.

Its encoder is the frozen tokenizer of BEiT and CAE. Images have channels last; pixel values in 0..1
are moved away from 0 and 1 by `map_pixels`, on both sides of the model.
"""

import dataclasses
import math
from collections.abc import Sequence

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn.masked_conv import MaskedConv
from maskjax.nn.sharding import constrain_batch

EPS = 0.1
# Kernel sizes of the four convolutions of a block.
ENCODER, DECODER = (3, 3, 3, 1), (1, 3, 3, 3)


def map_pixels(image: Array) -> Array:
    """float[...] in 0..1 -> 0.1..0.9, where the logit is small."""
    return (1 - 2 * EPS) * image + EPS


def unmap_pixels(image: Array) -> Array:
    """The inverse of `map_pixels`, clipped to 0..1."""
    return jnp.clip((image - EPS) / (1 - 2 * EPS), 0, 1)


@dataclasses.dataclass(frozen=True)
class DalleSize:
    """Sizes of the two networks; the defaults are those of DALL-E.

    Attributes:
        vocab: V, number of tokens.
        width: channels of the first group; each further group of the encoder has twice as many.
        groups: groups of blocks; between them the encoder halves the image, so that a token stands
            for 2 ** (groups - 1) pixels in both directions.
        blocks: of a group.
        channels: of images.
        embedding: channels that the decoder gives a token.
    """

    vocab: int = 8192
    width: int = 256
    groups: int = 4
    blocks: int = 2
    channels: int = 3
    embedding: int = 128

    @property
    def stride(self) -> int:
        """Pixels of a token in both directions."""
        return 2 ** (self.groups - 1)

    @property
    def gain(self) -> float:
        """Factor of every residual branch: 1 / (number of blocks)^2."""
        return 1 / (self.groups * self.blocks) ** 2


class Residual(nn.Module):
    """x + gain * four convolutions, each after a ReLU; a 1 x 1 convolution where x is resized.

    Attributes:
        features: output channels; inside there are a quarter of them.
        kernels: sizes of the four convolutions.
        gain: factor of the branch.
        dtype: of the operands.
    """

    features: int
    kernels: tuple[int, ...]
    gain: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        y, last = x, len(self.kernels)
        for i, size in enumerate(self.kernels, 1):
            features = self.features if i == last else self.features // 4
            y = _conv(jax.nn.relu(y), features, size, self.dtype, f"conv_{i}")
        if x.shape[-1] != self.features:
            x = _conv(x, self.features, 1, self.dtype, "id_path")
        return x + self.gain * y


class DalleEncoder(nn.Module):
    """Mapped images to logits over the tokens.

    Attributes:
        size: sizes.
        dtype: of all layers but the last, whose float32 keeps the largest logit the largest.
    """

    size: DalleSize = DalleSize()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, taps: Sequence[str] = ()) -> tuple[Array, dict[str, Array]]:
        """float[B, H, W, C] (see `map_pixels`) -> logits float32[B, h, w, V] and {tap: activation}.

        Args:
            x: H and W are multiples of the stride, h = H / stride.
            taps: "group_1" ..., after their pooling, or "features", what the last layer reads.
        """
        size, seen = self.size, {}
        x = constrain_batch(_conv(x, size.width, 7, self.dtype, "input"))
        for group in range(1, size.groups + 1):
            for block in range(1, size.blocks + 1):
                name = f"group_{group}_block_{block}"
                features = size.width * 2 ** (group - 1)
                x = Residual(features, ENCODER, size.gain, self.dtype, name=name)(x)
            if group < size.groups:
                x = einops.reduce(x, "b (h p) (w q) c -> b h w c", "max", p=2, q=2)
            seen[f"group_{group}"] = x = constrain_batch(x)
        seen["features"] = jax.nn.relu(x)
        logits = _conv(seen["features"], size.vocab, 1, jnp.float32, "output")
        return constrain_batch(logits), {name: seen[name] for name in taps}


class DalleDecoder(nn.Module):
    """Tokens to images.

    Attributes:
        size: sizes.
        dtype: of all layers but the first.
    """

    size: DalleSize = DalleSize()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> tuple[Array, Array]:
        """Shares of tokens float[B, h, w, V] (one-hot, or relaxed) -> two float32[B, H, W, C].

        They are location and log scale of the logit of every mapped pixel (see `losses.pixel`).
        """
        size = self.size
        x = constrain_batch(_conv(tokens, size.embedding, 1, jnp.float32, "input"))
        for group in range(1, size.groups + 1):
            for block in range(1, size.blocks + 1):
                name = f"group_{group}_block_{block}"
                features = size.width * 2 ** (size.groups - group)
                x = Residual(features, DECODER, size.gain, self.dtype, name=name)(x)
            if group < size.groups:
                x = einops.repeat(x, "b h w c -> b (h p) (w q) c", p=2, q=2)
            x = constrain_batch(x)
        out = _conv(jax.nn.relu(x), 2 * size.channels, 1, self.dtype, "output")
        location, log_scale = jnp.split(constrain_batch(out).astype(jnp.float32), 2, axis=-1)
        return location, log_scale


def _conv(x: Array, features: int, size: int, dtype: DTypeLike, name: str) -> Array:
    """A layer of the module that calls, zero padded; starts as DALL-E's: N(0, 1 / fan_in)."""
    zeros = nn.initializers.zeros
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    layer = MaskedConv(features, size, dtype=dtype, kernel_init=init, bias_init=zeros, name=name)
    return layer(x)[0]


def encoder_flops(size: DalleSize, image: tuple[int, int]) -> int:
    """FLOPs of the encoder's convolutions for one image of (height, width) pixels."""
    pixels, width = math.prod(image), size.width
    total = pixels * 49 * size.channels * width
    for group in range(size.groups):
        inputs, features = width * 2 ** max(group - 1, 0), width * 2**group
        total += pixels // 4**group * _group_products(size.blocks, inputs, features, ENCODER)
    last = width * 2 ** (size.groups - 1)
    return 2 * (total + pixels // size.stride**2 * last * size.vocab)


def decoder_flops(size: DalleSize, image: tuple[int, int]) -> int:
    """FLOPs of the decoder's convolutions for one image of (height, width) pixels."""
    tokens, inputs = math.prod(image) // size.stride**2, size.embedding
    total = tokens * size.vocab * inputs
    for group in range(size.groups):
        features = size.width * 2 ** (size.groups - 1 - group)
        total += tokens * 4**group * _group_products(size.blocks, inputs, features, DECODER)
        inputs = features
    return 2 * (total + math.prod(image) * inputs * 2 * size.channels)


def _group_products(blocks: int, inputs: int, features: int, kernels: tuple[int, ...]) -> int:
    """Multiply-adds of a group of blocks at one position."""
    total = 0
    for block in range(blocks):
        first = features if block else inputs
        widths = [first, *[features // 4] * (len(kernels) - 1), features]
        pairs = zip(kernels, widths, widths[1:], strict=False)
        total += sum(kernel**2 * a * b for kernel, a, b in pairs)
        total += first * features * (first != features)
    return total
