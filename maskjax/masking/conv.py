"""Convolutions that see only the valid part of an image: masked and partial convolution, densify.

Every operation takes x [B, H, W, C] and valid bool[B, H, W] (True = visible, one mask for all
channels), returns both, and its result is 0 where the returned mask is False. What stands in `x` at
invalid positions, NaN included, reaches neither results nor gradients.
"""

from typing import Literal

import chex
import jax.numpy as jnp
from jax import Array, lax

from maskjax.masking.windows import Rule, Window, count_inside, count_valid, out_valid

Normalize = Literal["window", "inside", "sum"]


def hide(x: Array, valid: Array) -> Array:
    """x [B, H, W, C] with 0 where `valid` bool[B, H, W] is False; NaN there becomes 0 too."""
    _check(x, valid)
    return jnp.where(valid[..., None], x, 0)


def densify(x: Array, valid: Array, token: Array) -> Array:
    """Fills invalid positions with a learned token (SparK, Tian et al. 2023).

    Args:
        x: [B, H, W, C].
        valid: bool[B, H, W].
        token: [C].

    Returns:
        [B, H, W, C].
    """
    _check(x, valid)
    chex.assert_shape(token, x.shape[-1:])
    return jnp.where(valid[..., None], x, token.astype(x.dtype))


def conv(x: Array, kernel: Array, bias: Array | None, window: Window, *, groups: int = 1) -> Array:
    """Plain convolution, zeros outside the image, accumulated in float32.

    Args:
        x: [B, H, W, I].
        kernel: [rows, columns, I / groups, O].
        bias: [O] or None.
        window: its size must be that of the kernel.
        groups: number of channel groups (O for a depth-wise convolution).

    Returns:
        [B, H', W', O] in the type of `x`.

    Raises:
        AssertionError: if the kernel has another size than the window.
    """
    chex.assert_shape(kernel, (*window.size, x.shape[-1] // groups, None))
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=jnp.float32,
    )
    return (y if bias is None else y + bias).astype(x.dtype)


def masked_conv(
    x: Array,
    valid: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    window: Window,
    groups: int = 1,
    rule: Rule = "centre",
) -> tuple[Array, Array]:
    """Convolution of the visible part with zeros elsewhere; 0 where the result is not valid.

    With rule="centre" this is submanifold sparse convolution in dense arithmetic, the layer of
    SparK (Tian et al. 2023) and of masked pretraining of convnets: the mask does not grow. With
    everything valid it is the plain convolution.

    Args:
        x, valid: [B, H, W, I] and bool[B, H, W].
        kernel, bias, window, groups: as `conv`.
        rule: which outputs are valid, see `out_valid`.

    Returns:
        [B, H', W', O] and bool[B, H', W'].
    """
    y = conv(hide(x, valid), kernel, bias, window, groups=groups)
    seen = out_valid(valid, window, rule)
    return hide(y, seen), seen


def partial_conv(
    x: Array,
    valid: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    window: Window,
    groups: int = 1,
    normalize: Normalize = "window",
) -> tuple[Array, Array]:
    """Partial convolution: re-weighted by what the window sees (Liu et al. 2018, eq. 1 and 2).

    y = conv(x * valid) * whole / seen + bias where the window sees a valid cell, else 0; those
    are the valid outputs, so the mask grows by the window.

    Args:
        x, valid: [B, H, W, I] and bool[B, H, W].
        kernel, bias, window, groups: as `conv`.
        normalize: what `whole / seen` is. "window": cells of the window over its valid ones, the
            border counting as a hole (Liu et al.); "inside": cells of the window inside the image
            over its valid ones, so that it is the plain convolution when everything is valid;
            "sum": 1 / (I * valid cells), the released code of MEDFE (Liu et al. 2020).

    Returns:
        [B, H', W', O] and bool[B, H', W'].

    Raises:
        ValueError: for an unknown `normalize`.
    """
    counts = count_valid(valid, window)
    seen = counts > 0
    whole = _whole(x.shape, window, normalize)
    ratio = jnp.where(seen, whole / jnp.maximum(counts, 1), 0).astype(jnp.float32)
    y = conv(hide(x, valid), kernel, None, window, groups=groups).astype(jnp.float32)
    y = y * ratio[..., None]
    y = (y if bias is None else y + bias).astype(x.dtype)
    return hide(y, seen), seen


def _whole(shape: tuple[int, ...], window: Window, normalize: str):
    if normalize == "window":
        return window.size[0] * window.size[1]
    if normalize == "inside":
        return count_inside(shape[1:3], window)
    if normalize == "sum":
        return 1 / shape[3]
    raise ValueError(f"normalize must be 'window', 'inside' or 'sum', got {normalize!r}")


def _check(x: Array, valid: Array):
    chex.assert_rank(x, 4)
    chex.assert_type(valid, bool)
    chex.assert_shape(valid, x.shape[:3])
