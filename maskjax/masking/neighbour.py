"""Layer masking: run a trained CNN on any visible region by carrying the mask through its layers.

Balasubramanian and Feizi 2023, "Towards Improved Input Masking for Convolutional Neural Networks".
Each layer takes and returns (x, valid), with x = 0 where valid is False; conventions of
`maskjax.masking.conv`. Pooling, batch norm and the global pool are those of `pool` (hidden="zero")
and `conv_norm`; pointwise activations that map 0 to 0 need nothing.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.conv import conv, hide, partial_conv
from maskjax.masking.windows import Window, out_valid, sum_in_window, window

Fill = Literal["neighbour", "zero", "partial"]
BOX = window(3, padding=1)


def neighbour_fill(
    x: Array, valid: Array, *, num_passes: int, eps: float = 1e-5
) -> tuple[Array, Array]:
    """Grows the visible region ring by ring with the mean of the known of 8 neighbours.

    Each pass fills the invalid cells that touch a known one (a diagonal counts). Known cells keep
    their values, cells further than `num_passes` stay 0. The filling is a constant for
    differentiation. The box is 3 x 3 whatever the convolution that follows.

    Args:
        x: [B, H, W, C].
        valid: bool[B, H, W].
        num_passes: static, >= 0.
        eps: added to the number of known neighbours (1e-5 in the official code, so each ring is
            smaller by about that share).

    Returns:
        x [B, H, W, C], 0 at what is still unknown, and the known bool[B, H, W].

    Raises:
        ValueError: if `num_passes` is negative.
    """
    if num_passes < 0:
        raise ValueError(f"num_passes must be >= 0, got {num_passes}")
    x = hide(x, valid)
    filled, known = jax.lax.stop_gradient(x).astype(jnp.float32), valid
    for _ in range(num_passes):  # few (kernel size - 1), so unrolled
        number = sum_in_window(known[..., None].astype(jnp.float32), BOX)
        mean = sum_in_window(filled, BOX) / (number + eps)
        filled = jnp.where(known[..., None], filled, mean)
        known = number[..., 0] > 0
    return jnp.where(valid[..., None], x, filled.astype(x.dtype)), known


def layer_conv(
    x: Array,
    valid: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    window: Window,
    groups: int = 1,
    fill: Fill = "neighbour",
) -> tuple[Array, Array]:
    """Convolution of the visible region; an output is valid if its window touches it.

    Args:
        x, valid: [B, H, W, I] and bool[B, H, W].
        kernel, bias, window, groups: as `maskjax.masking.conv.conv`.
        fill: what the window sees at invalid cells. "neighbour" (the method): the filling of
            `neighbour_fill`, in as many passes as the window reaches; "zero" (its ablation);
            "partial": zeros, re-weighted by the share of visible cells as in `partial_conv`.

    Returns:
        [B, H', W', O] and bool[B, H', W'].

    Raises:
        ValueError: for an unknown `fill`.
    """
    if fill == "partial":
        return partial_conv(x, valid, kernel, bias, window=window, groups=groups)
    if fill == "neighbour":
        # A window that touches a visible cell reaches this many rings at most; the official code
        # makes one pass more, which no valid output sees.
        x, _ = neighbour_fill(x, valid, num_passes=max(window.reach) - 1)
    elif fill != "zero":
        raise ValueError(f"fill must be 'neighbour', 'zero' or 'partial', got {fill!r}")
    else:
        x = hide(x, valid)
    seen = out_valid(valid, window, "any")
    return hide(conv(x, kernel, bias, window, groups=groups), seen), seen


def join(branch: tuple[Array, Array], shortcut: tuple[Array, Array]) -> tuple[Array, Array]:
    """Residual join of two (x [B, H, W, C], valid bool[B, H, W]): their sum where both are valid.

    Since 1 x 1 convolutions do not grow the mask, this is the shortcut's mask in a ResNet.
    """
    seen = branch[1] & shortcut[1]
    return hide(branch[0] + shortcut[0], seen), seen
