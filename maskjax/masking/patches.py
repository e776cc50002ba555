"""Between pixels and patches, for any grid, patch and channel count.

A patch vector lists its pixels by (row, column, channel), channel fastest, as in MAE.
"""

from typing import Literal

import chex
import einops
from jax import Array


def grid_of(image_size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the patch grid of an image of (height, width) pixels.

    Raises:
        ValueError: unless the patch divides the image.
    """
    if patch[0] <= 0 or patch[1] <= 0 or image_size[0] % patch[0] or image_size[1] % patch[1]:
        raise ValueError(f"patch {patch} does not divide the image size {image_size}")
    return image_size[0] // patch[0], image_size[1] // patch[1]


def patchify(image: Array, patch: tuple[int, int]) -> Array:
    """image [..., H, W, C] -> patches [..., N, P] with P = ph * pw * C, in raster order.

    Raises:
        ValueError: unless the patch divides the image.
    """
    grid_of(image.shape[-3:-1], patch)
    pattern = "... (h p) (w q) c -> ... (h w) (p q c)"
    return einops.rearrange(image, pattern, p=patch[0], q=patch[1])


def tubify(video: Array, tube: tuple[int, int, int]) -> Array:
    """Clips [B, T, H, W, C] -> tubes [B, N, P], P = frames x height x width x channels of a tube.

    Tubes are in raster order, time first; their values in that of (frame, row, column, channel).

    Args:
        video: clips; the axes are multiples of the tube's.
        tube: (frames, height, width) of a tube.
    """
    sizes = dict(zip("upq", tube, strict=True))
    return einops.rearrange(video, "b (t u) (h p) (w q) c -> b (t h w) (u p q c)", **sizes)


def unpatchify(patches: Array, grid: tuple[int, int], patch: tuple[int, int]) -> Array:
    """patches [..., N, P] -> image [..., H, W, C]; the inverse of `patchify`.

    Raises:
        AssertionError: if N is not the number of cells of the grid.
    """
    chex.assert_axis_dimension(patches, -2, grid[0] * grid[1])
    pattern = "... (h w) (p q c) -> ... (h p) (w q) c"
    return einops.rearrange(patches, pattern, h=grid[0], w=grid[1], p=patch[0], q=patch[1])


def to_pixels(per_patch: Array, grid: tuple[int, int], patch: tuple[int, int]) -> Array:
    """Repeats one value per patch over its pixels: [..., N] -> [..., H, W]."""
    chex.assert_axis_dimension(per_patch, -1, grid[0] * grid[1])
    pattern = "... (h w) -> ... (h p) (w q)"
    return einops.repeat(per_patch, pattern, h=grid[0], w=grid[1], p=patch[0], q=patch[1])


def from_pixels(
    pixels: Array, patch: tuple[int, int], *, rule: Literal["any", "all"] = "any"
) -> Array:
    """bool[..., H, W] -> bool[..., N]: True where any (or all) pixels of the patch are True.

    Raises:
        ValueError: unless the patch divides the image, or for an unknown rule.
    """
    chex.assert_type(pixels, bool)
    cells = patchify(pixels[..., None], patch)
    if rule == "any":
        return cells.any(-1)
    if rule == "all":
        return cells.all(-1)
    raise ValueError(f"rule must be 'any' or 'all', got {rule!r}")
