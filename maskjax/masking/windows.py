"""Where a sliding window stands, and what of a valid mask it sees: convolution and pooling."""

from typing import Literal, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | Literal["same", "valid"]
Rule = Literal["centre", "any", "all"]


class Window(NamedTuple):
    """Static geometry that a convolution (or pool) and its mask share; make it with `window`.

    Attributes:
        size, stride, dilation: (rows, columns).
        padding: ((top, bottom), (left, right)), cells added outside the image.
    """

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)

    @property
    def reach(self) -> tuple[int, int]:
        """(rows, columns) of the image that one window spans, holes of the dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))

    def out_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the result for an image of `size`.

        Raises:
            ValueError: if the window does not fit into the padded image.
        """
        padded = [n + sum(pad) for n, pad in zip(size, self.padding, strict=True)]
        out = [(n - r) // s + 1 for n, r, s in zip(padded, self.reach, self.stride, strict=True)]
        if min(out) < 1:
            raise ValueError(f"window {self.size} does not fit into the image {size}: {self}")
        return out[0], out[1]


def window(size: Pair, *, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1) -> Window:
    """The window of these sizes.

    Args:
        size, stride, dilation: one number, or (rows, columns); all >= 1.
        padding: cells on both sides, one number or (rows, columns); "same" keeps the image size at
            stride 1 (for even sizes the extra cell is at the bottom and right); "valid" is 0.

    Raises:
        ValueError: for sizes below 1, negative padding or an unknown word.
    """
    size, stride, dilation = _pair(size), _pair(stride), _pair(dilation)
    if min(*size, *stride, *dilation) < 1:
        raise ValueError(f"size {size}, stride {stride} and dilation {dilation} must be >= 1")
    if padding == "same":
        extra = [(k - 1) * d for k, d in zip(size, dilation, strict=True)]
        pads = tuple((e // 2, e - e // 2) for e in extra)
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f"padding must be a number, a pair, 'same' or 'valid', got {padding!r}")
    else:
        pads = tuple((p, p) for p in _pair(0 if padding == "valid" else padding))
    if min(min(pad) for pad in pads) < 0:
        raise ValueError(f"padding must not be negative, got {padding}")
    return Window(size, stride, pads, dilation)


def count_valid(valid: Array, window: Window) -> Array:
    """int32[B, H', W']: how many cells of each window are valid, of valid bool[B, H, W].

    Cells outside the image are not.
    """
    chex.assert_type(valid, bool)
    return _slide(valid.astype(jnp.int32), window, 0, lax.add)


def count_inside(size: tuple[int, int], window: Window) -> np.ndarray:
    """int64[H', W']: how many cells of each window lie inside an image of (height, width) cells."""
    counts = []
    for axis, n in enumerate(size):
        taps = np.arange(window.size[axis]) * window.dilation[axis] - window.padding[axis][0]
        starts = np.arange(window.out_size(size)[axis]) * window.stride[axis]
        places = starts[:, None] + taps
        counts.append(((places >= 0) & (places < n)).sum(1))
    return counts[0][:, None] * counts[1]


def out_valid(valid: Array, window: Window, rule: Rule = "centre") -> Array:
    """The mask after a convolution or pool: bool[B, H, W] -> bool[B, H', W'].

    Args:
        valid: bool[B, H, W], True = visible.
        window: of the convolution or pool.
        rule: "centre": an output is valid where the cell under the middle of its window is
            (submanifold sparse convolution; with masks drawn in cells that every stride divides
            this is the mask at the lower resolution, as in SparK); "any": where the window touches
            a valid cell (layer masking, partial convolution); "all": where it touches no invalid
            cell of the image.

    Raises:
        ValueError: for an unknown rule.
    """
    chex.assert_rank(valid, 3)
    chex.assert_type(valid, bool)
    if rule == "centre":
        return _at_centres(valid, window)
    if rule == "any":
        return _slide(valid, window, False, lax.max)
    if rule == "all":
        return _slide(valid, window, True, lax.min)
    raise ValueError(f"rule must be 'centre', 'any' or 'all', got {rule!r}")


def max_in_window(x: Array, window: Window) -> Array:
    """float[B, H, W, C] -> [B, H', W', C]: the largest value; -inf outside the image."""
    return _slide(x, window, -jnp.inf, lax.max)


def sum_in_window(x: Array, window: Window) -> Array:
    """float[B, H, W, C] -> [B, H', W', C]: the sum; 0 outside the image."""
    return _slide(x, window, 0.0, lax.add)


def _slide(x: Array, window: Window, start: float | bool, operation) -> Array:
    """Reduces [B, H, W] or [B, H, W, C] over the window; `start` stands outside the image."""
    rest = x.ndim - 3
    full = lambda pair, other: (other, *pair, *(other,) * rest)  # noqa: E731
    return lax.reduce_window(
        x,
        np.asarray(start, x.dtype)[()],
        operation,
        full(window.size, 1),
        full(window.stride, 1),
        full(window.padding, (0, 0)),
        window_dilation=full(window.dilation, 1),
    )


def _at_centres(valid: Array, window: Window) -> Array:
    """The mask at the middle of each window; the upper left one of the middles of an even size."""
    for axis, n in enumerate(window.out_size(valid.shape[1:])):
        middle = (window.size[axis] - 1) // 2 * window.dilation[axis] - window.padding[axis][0]
        places = middle + np.arange(n) * window.stride[axis]
        # A middle outside the image (no usual padding does that) sees the nearest cell.
        places = np.clip(places, 0, valid.shape[axis + 1] - 1)
        valid = _take_static(valid, places, axis + 1)
    return valid


def _take_static(x: Array, places: np.ndarray, axis: int) -> Array:
    """x at equally spaced or any places; equally spaced ones are a slice, which costs nothing."""
    steps = np.unique(np.diff(places)) if len(places) > 1 else np.array([1])
    if len(steps) == 1 and steps[0] > 0:
        first, last = int(places[0]), int(places[-1])
        return lax.slice_in_dim(x, first, last + 1, int(steps[0]), axis)
    return jnp.take(x, places, axis)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
