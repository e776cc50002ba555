"""Invertible maps between a torch tensor and the leaf or leaves of ours with the same values.

Letters: D width in, E width out, H heads, K head width, P = p * p * C values of a patch in
(row, column, channel) order with the channel fastest. Every transform is written as an einops
pattern read in both directions, so that it cannot disagree with its inverse; none looks at the rank
or the size of an array to guess what it holds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from einops import rearrange

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Transform:
    """A pair of maps that undo each other.

    Attributes:
        name: What the transform does, for messages.
        to_torch: ``(*leaves) -> array``: our leaf (or leaves), one layer, to the torch tensor.
        from_torch: ``(array, *shapes) -> leaves``: the torch tensor to our leaves, whose shapes are
            given because a torch tensor does not say, for example, how many heads it holds.
    """

    name: str
    to_torch: Callable[..., np.ndarray]
    from_torch: Callable[..., tuple[np.ndarray, ...]]

    def torch_shape(self, *shapes: Shape) -> Shape:
        """Shape of the torch tensor for leaves of the given shapes (runs on arrays of zeros)."""
        return self.to_torch(*(np.broadcast_to(np.int8(0), shape) for shape in shapes)).shape


def rearranged(name: str, ours: str, theirs: str, **sizes: int) -> Transform:
    """Build the transform ``ours <-> theirs`` from two einops patterns over the same letters.

    Args:
        name: What it does, for messages.
        ours: Pattern of our leaf, for example "d h k".
        theirs: Pattern of the torch tensor, for example "(h k) d".
        **sizes: Sizes that neither shape tells, for example the patch size of "(p q c) d".
    """

    def to_torch(leaf: np.ndarray) -> np.ndarray:
        return rearrange(leaf, f"{ours} -> {theirs}", **sizes)

    def from_torch(array: np.ndarray, shape: Shape) -> tuple[np.ndarray, ...]:
        return (rearrange(array, f"{theirs} -> {ours}", **sizes, **_letters(ours, shape)),)

    return Transform(name, to_torch, from_torch)


def _letters(pattern: str, shape: Shape) -> dict[str, int]:
    """Sizes of the axes that stand alone in ``pattern``; grouped axes need explicit sizes."""
    axes = re.findall(r"\([^)]*\)|\S+", pattern)
    return {axis: size for axis, size in zip(axes, shape, strict=True) if axis.isalpha()}


def fused(inner: Transform, name: str) -> Transform:
    """Stack several leaves along the first torch axis, each brought there by ``inner``.

    ``fused(HEAD_KERNEL, ...)`` of (query, key, value) gives the (3E, D) weight of a fused qkv
    layer, whose rows are [q; k; v], each head-major.
    """

    def to_torch(*leaves: np.ndarray) -> np.ndarray:
        return np.concatenate([inner.to_torch(leaf) for leaf in leaves], axis=0)

    def from_torch(array: np.ndarray, *shapes: Shape) -> tuple[np.ndarray, ...]:
        rows = [inner.torch_shape(shape)[0] for shape in shapes]
        parts = np.split(array, np.cumsum(rows)[:-1], axis=0)
        pairs = zip(parts, shapes, strict=True)
        return tuple(leaf for part, shape in pairs for leaf in inner.from_torch(part, shape))

    return Transform(name, to_torch, from_torch)


def patch_conv(patch_size: int, channels: int, tubelet: int = 0) -> Transform:
    """Patch projection: our matrix [P, D] and the (D, C, p, p) weight of a stride-p convolution.

    With a tubelet of u frames the weight is (D, C, u, p, p), and P lists (frame, row, column,
    channel).
    """
    sizes = {"p": patch_size, "q": patch_size, "c": channels}
    if tubelet:
        return rearranged("tube projection", "(u p q c) d", "d c u p q", u=tubelet, **sizes)
    return rearranged("patch projection", "(p q c) d", "d c p q", **sizes)


def pixel_head(patch_size: int, channels: int) -> tuple[Transform, Transform]:
    """Kernel [D, P] and bias [P] of a head to pixels, and those of a 1x1 convolution, (P, D, 1, 1).

    Its channels are ordered for torch's pixel shuffle: (channel, row, column), the column fastest.
    """
    sizes = {"p": patch_size, "q": patch_size, "c": channels}
    kernel = rearranged("pixel head", "d (p q c)", "(c p q) d 1 1", **sizes)
    return kernel, rearranged("pixel head's bias", "(p q c)", "(c p q)", **sizes)


IDENTITY = Transform("same array", lambda leaf: leaf, lambda array, shape: (array,))
LINEAR = rearranged("linear", "d e", "e d")
HEAD_KERNEL = rearranged("kernel into heads", "d h k", "(h k) d")
HEAD_BIAS = rearranged("bias of heads", "h k", "(h k)")
OUT_KERNEL = rearranged("kernel out of heads", "h k d", "d (h k)")
QKV_KERNEL = fused(HEAD_KERNEL, "fused qkv kernel")
QKV_BIAS = fused(HEAD_BIAS, "fused qkv bias")
GATED_KERNEL = fused(LINEAR, "fused gate kernel")
GATED_BIAS = fused(IDENTITY, "fused gate bias")
CONV = rearranged("convolution", "r c i o", "o i r c")
TOKEN = rearranged("token", "d", "1 1 d")
ROW = rearranged("token as a row", "d", "1 d")
TABLE = rearranged("position table", "n d", "1 n d")
