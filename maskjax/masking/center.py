"""Masks that grow from the centre outwards, for inpainting a middle or outpainting a border."""

import math
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from maskjax.masking.noise import noise_of
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit


class CenterNoise(NamedTuple):
    """What `center_out` consumes, uniform in [0, 1).

    Attributes:
        shift: float[2], where the centre lies.
        ties: float[N], the order of tokens equally far from it.
    """

    shift: Array
    ties: Array


def center_out(
    noise_or_key: CenterNoise | Array,
    grid: tuple[int, int],
    *,
    num_visible: int,
    hide: Literal["centre", "border"] = "centre",
    shape: Literal["box", "disc"] = "box",
    max_shift: float = 0.0,
) -> TokenSplit:
    """Hides the tokens nearest to the centre (inpainting) or farthest from it (outpainting).

    The count is exact: the last ring of equal distance is shown in part, at random. The grid may
    as well be pixels. A law of ours, of no single paper.

    Args:
        noise_or_key: one typed PRNG key, or the noise.
        grid: (rows, columns); N is their product.
        num_visible: K in 0..N, static.
        hide: which end is hidden.
        shape: "box": distance is the larger of the two, each as a share of its side, so what is
            hidden has the shape of the grid; "disc": straight distance in tokens.
        max_shift: how far the centre moves, as a share of each side, uniformly in both directions;
            in [0, 0.5].

    Returns:
        TokenSplit with ids int32[N], from the visible end to the hidden end, and cuts (K,).

    Raises:
        ValueError: if K is outside 0..N or an option is unknown or outside its range.
    """
    if hide not in ("centre", "border") or shape not in ("box", "disc"):
        found = f"got hide={hide!r}, shape={shape!r}"
        raise ValueError(f"hide is 'centre' or 'border', shape is 'box' or 'disc'; {found}")
    if not 0 <= max_shift <= 0.5:
        raise ValueError(f"max_shift is a share of the side, in [0, 0.5]; got {max_shift}")
    noise = noise_or_key
    if not isinstance(noise, CenterNoise):
        keys = jax.random.split(noise)
        noise = CenterNoise(noise_of(keys[0], (2,)), noise_of(keys[1], (math.prod(grid),)))
    chex.assert_shape(noise.shift, (2,))
    chex.assert_shape(noise.ties, (math.prod(grid),))
    distance = _distance(noise.shift, grid, shape, max_shift).reshape(-1)
    # Rings differ by more than this, tokens of one ring by less.
    order = jnp.round(distance * 1e5) + 0.5 * noise.ties
    return from_scores(-order if hide == "centre" else order, num_visible=num_visible)


def _distance(shift: Array, grid: tuple[int, int], shape: str, max_shift: float) -> Array:
    """float[rows, columns] in 0..1, from a centre that is moved by up to max_shift of a side."""
    axes = []
    for axis, length in enumerate(grid):
        centre = (length - 1) / 2 + (2 * shift[axis] - 1) * max_shift * length
        axes.append(jnp.abs(jnp.arange(length) - centre) / (length if shape == "box" else 1))
    if shape == "box":
        return jnp.maximum(axes[0][:, None], axes[1])
    return jnp.hypot(axes[0][:, None], axes[1]) / math.hypot(*grid)
