"""Pooling that sees only the valid part of an image; conventions of `maskjax.masking.conv`."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

from maskjax.masking.conv import hide
from maskjax.masking.reduce import masked_mean
from maskjax.masking.windows import (
    Rule,
    Window,
    count_valid,
    max_in_window,
    out_valid,
    sum_in_window,
)

Hidden = Literal["skip", "zero"]


def masked_max_pool(
    x: Array, valid: Array, *, window: Window, rule: Rule = "centre", hidden: Hidden = "skip"
) -> tuple[Array, Array]:
    """Largest visible value of each window.

    Args:
        x: float[B, H, W, C].
        valid: bool[B, H, W].
        window: static; cells outside the image never count.
        rule: which outputs are valid, see `out_valid`; a window that sees nothing gives 0.
        hidden: "skip": invalid cells do not take part; "zero": they take part as 0, as in the
            released SparK and layer masking (the same after a ReLU).

    Returns:
        [B, H', W', C] and bool[B, H', W'].

    Raises:
        ValueError: for an unknown `hidden`.
    """
    x, seen = hide(x, valid), out_valid(valid, window, rule)
    if hidden == "skip":
        x = jnp.where(valid[..., None], x, -jnp.inf)
        # A window may be valid by the rule and still see nothing (even sizes at the border).
        touched = out_valid(valid, window, "any")
        return hide(max_in_window(x, window), seen & touched), seen
    if hidden == "zero":
        return hide(max_in_window(x, window), seen), seen
    raise ValueError(f"hidden must be 'skip' or 'zero', got {hidden!r}")


def masked_avg_pool(
    x: Array, valid: Array, *, window: Window, rule: Rule = "any", hidden: Hidden = "skip"
) -> tuple[Array, Array]:
    """Mean of the visible values of each window.

    Args:
        x, valid, window, rule: as `masked_max_pool`.
        hidden: "skip": the divisor is the number of visible cells; "zero": it is the size of the
            window, border included, so hidden cells pull to 0 (SparK, layer masking, torch).

    Returns:
        [B, H', W', C] and bool[B, H', W'].

    Raises:
        ValueError: for an unknown `hidden`.
    """
    total = sum_in_window(hide(x, valid).astype(jnp.float32), window)
    seen = out_valid(valid, window, rule)
    if hidden == "skip":
        mean = total / jnp.maximum(count_valid(valid, window), 1)[..., None]
    elif hidden == "zero":
        mean = total / (window.size[0] * window.size[1])
    else:
        raise ValueError(f"hidden must be 'skip' or 'zero', got {hidden!r}")
    return hide(mean.astype(x.dtype), seen), seen


def masked_global_pool(x: Array, valid: Array) -> Array:
    """Mean over the visible positions: [B, H, W, C] -> float32[B, C]; 0 where none is visible."""
    return masked_mean(x, valid[..., None], (1, 2))
