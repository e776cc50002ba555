"""One mask at every resolution: between cells of a patch grid and pixels, at any stride.

Masks are bool[..., H, W]; nothing is said about whether True is hidden, visible or a hole.
"""

from collections.abc import Sequence
from typing import Literal

import chex
import jax.numpy as jnp
import numpy as np
from einops import reduce, repeat
from jax import Array

Pair = int | tuple[int, int]


def enlarge(mask: Array, factor: Pair) -> Array:
    """Repeats each cell: [..., h, w] -> [..., h * rows, w * columns]; any type."""
    rows, columns = _pair(factor)
    return repeat(mask, "... h w -> ... (h r) (w c)", r=rows, c=columns)


def shrink(mask: Array, factor: Pair, *, rule: Literal["any", "all"] = "any") -> Array:
    """bool[..., H, W] -> bool[..., H / rows, W / columns]: True where any (all) of the cell is.

    Raises:
        ValueError: unless the factor divides the size, or for an unknown rule.
    """
    chex.assert_type(mask, bool)
    rows, columns = _dividing(mask, factor)
    if rule not in ("any", "all"):
        raise ValueError(f"rule must be 'any' or 'all', got {rule!r}")
    return reduce(mask, "... (h r) (w c) -> ... h w", rule, r=rows, c=columns)


def share(mask: Array, factor: Pair) -> Array:
    """bool or float[..., H, W] -> float32[..., H / rows, W / columns]: the mean of each cell.

    Raises:
        ValueError: unless the factor divides the size.
    """
    rows, columns = _dividing(mask, factor)
    pattern = "... (h r) (w c) -> ... h w"
    return reduce(mask.astype(jnp.float32), pattern, "mean", r=rows, c=columns)


def nearest(mask: Array, size: tuple[int, int]) -> Array:
    """[..., h, w] -> [..., H, W] for any two sizes: cell floor(i * h / H), as torch's "nearest"."""
    for axis, (old, new) in enumerate(zip(mask.shape[-2:], size, strict=True)):
        places = np.arange(new) * old // new
        mask = jnp.take(mask, places, axis=mask.ndim - 2 + axis)
    return mask


def at_size(
    mask: Array, size: tuple[int, int], *, rule: Literal["any", "all", "nearest"] = "any"
) -> Array:
    """The mask at another resolution, finer or coarser by whole factors.

    Args:
        mask: bool[..., h, w].
        size: (height, width) wanted.
        rule: where it gets coarser, what a cell of mixed content is; "nearest" also takes sizes
            that do not divide.

    Returns:
        bool[..., *size].

    Raises:
        ValueError: for sizes that do not divide, unless the rule is "nearest".
    """
    if rule == "nearest":
        return nearest(mask, size)
    for axis in (0, 1):
        old, new = mask.shape[mask.ndim - 2 + axis], size[axis]
        if max(old, new) % min(old, new):
            raise ValueError(
                f"a mask of {mask.shape[-2:]} cells does not fit the size {size}: one must divide "
                "the other along each axis, or take rule='nearest'"
            )
        finer = [new // old if i == axis and new >= old else 1 for i in (0, 1)]
        coarser = [old // new if i == axis and new < old else 1 for i in (0, 1)]
        mask = shrink(enlarge(mask, tuple(finer)), tuple(coarser), rule=rule)
    return mask


def pyramid(
    mask: Array,
    image_size: tuple[int, int],
    strides: Sequence[int],
    *,
    rule: Literal["any", "all", "nearest"] = "any",
) -> dict[int, Array]:
    """The mask at every stride of a network: {stride: bool[..., H / stride, W / stride]}.

    SparK (Tian et al. 2023) draws the mask at stride 32 and shows it at 4, 8, 16, 32; then no
    stride is coarser than the mask and the rule does not matter.

    Args:
        mask: bool[..., h, w], cells of any size.
        image_size: (H, W) of the image; stride 1 is the pixel mask.
        strides: each must divide the image.
        rule: see `at_size`.

    Raises:
        ValueError: if a stride does not divide the image or a size does not fit the mask.
    """
    for stride in strides:
        if stride < 1 or image_size[0] % stride or image_size[1] % stride:
            raise ValueError(f"stride {stride} does not divide the image size {image_size}")
    sizes = {s: (image_size[0] // s, image_size[1] // s) for s in strides}
    return {stride: at_size(mask, size, rule=rule) for stride, size in sizes.items()}


def _dividing(mask: Array, factor: Pair) -> tuple[int, int]:
    rows, columns = _pair(factor)
    if rows < 1 or columns < 1 or mask.shape[-2] % rows or mask.shape[-1] % columns:
        raise ValueError(f"factor {(rows, columns)} does not divide the size {mask.shape[-2:]}")
    return rows, columns


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
