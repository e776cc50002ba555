"""Pixel holes for inpainting: boxes and free-form strokes, bool[H, W] with True = hole.

To hide the tokens that a hole touches, exactly K of them visible:
`from_hidden(patches.from_pixels(hole, patch), num_visible=K)`.
"""

import itertools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from maskjax.masking import boxes
from maskjax.masking.noise import is_key, noise_of, varying_like

Range = float | tuple[float, float]
# The pieces of a stroke leave its direction by this angle, give or take (radians).
TURN, TURN_RANGE = 2 * math.pi / 5, 2 * math.pi / 15
FAR = 3e38


class StrokeNoise(NamedTuple):
    """What `irregular` consumes, uniform in [0, 1).

    Attributes:
        area: float[], the share of the image.
        number: float[], how many strokes.
        strokes: float[S, 4], one a row: row and column of its start, its direction, its width.
        turns: float[S, V, 2], angle and length of each of its V pieces.
    """

    area: Array
    number: Array
    strokes: Array
    turns: Array


def box(
    noise_or_key: Array,
    size: tuple[int, int],
    *,
    area: Range = (0.1, 0.4),
    aspect: tuple[float, float] = (0.5, 2.0),
    num_boxes: int = 1,
    centred: bool = False,
) -> Array:
    """Rectangular holes of random area, aspect ratio and place; every place inside alike.

    Each box has its drawn area to within half a row; boxes may overlap.

    Args:
        noise_or_key: one typed PRNG key, or noise float[num_boxes, 4]: area, aspect, top, left.
        size: (H, W) in pixels.
        area: share of the image per box, in (0, 1]; one number or the range of a uniform draw.
        aspect: range of height / width, drawn uniformly in its logarithm; gives way where the area
            would not fit.
        num_boxes: how many.
        centred: whether the boxes stand in the middle of the image instead.

    Returns:
        bool[H, W], True = hole.

    Raises:
        ValueError: if an option is outside its range.
    """
    law = BoxLaw(size, area_range(area), aspect, centred)
    check_box(num_boxes, aspect)
    noise = noise_of(noise_or_key, (num_boxes, 4))
    chex.assert_rank(noise, 2)
    return boxes.to_mask(box_edges(noise, law), size).any(0)


class BoxLaw(NamedTuple):
    """The options of `box`; see there."""

    size: tuple[int, int]
    area: tuple[float, float]
    aspect: tuple[float, float]
    centred: bool


def check_box(num_boxes: int, aspect: tuple[float, float]):
    """Refuses what `box` cannot do.

    Raises:
        ValueError: naming the argument.
    """
    if num_boxes < 1 or not 0 < aspect[0] <= aspect[1]:
        found = f"got num_boxes={num_boxes}, aspect={aspect}"
        raise ValueError(f"at least one box and 0 < lowest <= highest aspect are needed; {found}")


def box_edges(noise: Array, law: BoxLaw, xp: Any = jnp) -> Array:
    """noise float[num_boxes, 4] -> boxes float[num_boxes, 4]; `xp` is jax.numpy or numpy."""
    size, (low, high), aspect = law.size, law.area, law.aspect
    wanted = (low + (high - low) * noise[:, 0]) * math.prod(size)
    ratio = aspect[0] * (aspect[1] / aspect[0]) ** noise[:, 1]
    # So high that it is at most as wide as the image, and so low that it is at least one wide.
    lowest, highest = xp.ceil(wanted / size[1]), xp.minimum(xp.floor(wanted), size[0])
    height = xp.maximum(xp.clip(xp.round(xp.sqrt(wanted * ratio)), lowest, highest), 1)
    width = xp.clip(xp.round(wanted / height), 1, size[1])
    sides = xp.stack([height, width], -1)
    free = xp.asarray(size) - sides
    start = xp.minimum(xp.floor(noise[:, 2:] * (free + 1)), free)
    if law.centred:
        start = xp.floor(free / 2)
    return xp.concatenate([start, start + sides], -1)


def irregular(
    noise_or_key: StrokeNoise | Array,
    size: tuple[int, int],
    *,
    area: Range = (0.1, 0.5),
    num_strokes: tuple[int, int] = (2, 8),
    num_turns: int = 6,
    width: tuple[float, float] = (0.05, 0.15),
) -> Array:
    """Free-form holes: zigzag brush strokes, of exactly the drawn area.

    After the free-form masks of Yu et al. 2019 ("Free-Form Image Inpainting with Gated
    Convolution"), a reconstruction: a stroke starts anywhere and has pieces of mean length 1/8 of
    the diagonal that leave its direction by 2 pi / 5, give or take 2 pi / 15, to alternating sides
    (these figures from memory). Ours: each stroke has a random direction and is mirrored at the
    border, and widths are only relative to each other; all strokes grow together until the hole has
    round(area * H * W) pixels. So ratio bands, in which inpainting is evaluated, are met exactly.

    Args:
        noise_or_key: one typed PRNG key, or the noise.
        size: (H, W) in pixels.
        area: share of the image in [0, 1]; one number or the range of a uniform draw.
        num_strokes: smallest and largest number, drawn uniformly.
        num_turns: V, pieces of a stroke.
        width: range of the relative widths, drawn uniformly.

    Returns:
        bool[H, W], True = hole. Takes a pass over the image for each stroke, and 31 to find the
        area.

    Raises:
        ValueError: if an option is outside its range.
    """
    law = StrokeLaw(size, area_range(area), num_strokes, width)
    check_strokes(num_strokes, num_turns, width)
    noise = noise_or_key
    if is_key(noise):
        keys, shapes = jax.random.split(noise, 4), stroke_shapes(num_strokes, num_turns)
        noise = StrokeNoise(*(noise_of(k, s) for k, s in zip(keys, shapes, strict=True)))
    chex.assert_shape(noise.strokes, (num_strokes[1], 4))
    chex.assert_shape(noise.turns, (num_strokes[1], num_turns, 2))
    corners, scale, count = strokes(noise, law)

    def nearer(field: Array, stroke: tuple[Array, Array]) -> tuple[Array, None]:
        return jnp.minimum(field, stroke_distance(*stroke, size)), None

    # One stroke at a time: no array has an image for each.
    start = varying_like(jnp.full(size, FAR), corners, scale)
    field = lax.scan(nearer, start, (corners, scale))[0]
    return smallest(field.reshape(-1), count).reshape(size)


class StrokeLaw(NamedTuple):
    """The options of `irregular`; see there."""

    size: tuple[int, int]
    area: tuple[float, float]
    num_strokes: tuple[int, int]
    width: tuple[float, float]


def check_strokes(num_strokes: tuple[int, int], num_turns: int, width: tuple[float, float]):
    """Refuses what `irregular` cannot do.

    Raises:
        ValueError: naming the argument.
    """
    if not 1 <= num_strokes[0] <= num_strokes[1] or num_turns < 1 or not 0 < width[0] <= width[1]:
        found = f"got num_strokes={num_strokes}, num_turns={num_turns}, width={width}"
        raise ValueError(f"ranges must be ascending, from at least 1 stroke and turn; {found}")


def stroke_shapes(num_strokes: tuple[int, int], num_turns: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of the noise of `irregular`."""
    return ((), (), (num_strokes[1], 4), (num_strokes[1], num_turns, 2))


def strokes(noise: StrokeNoise, law: StrokeLaw, xp: Any = jnp) -> tuple[Array, Array, Array]:
    """What is drawn, from noise; `xp` is jax.numpy or numpy.

    Returns:
        Corners float[S, V + 1, 2] in pixels, scales float[S] = 1 / radius**2 (0 for strokes that
        are absent), and the number of pixels of the hole, int32[].
    """
    (fewest, most), (thin, thick), (low, high) = law.num_strokes, law.width, law.area
    present = xp.arange(most) < fewest + xp.floor(noise.number * (most - fewest + 1))
    radius = thin + (thick - thin) * noise.strokes[:, 3]
    scale = xp.where(present, 1 / xp.square(radius), 0)
    count = xp.round((low + (high - low) * noise.area) * math.prod(law.size)).astype(np.int32)
    return _corners(noise, law.size, xp), scale, count


def smallest(x: Array, count: Array) -> Array:
    """Marks the `count` smallest of float32[N] >= 0, exactly; ties go to the lower index: bool[N].

    By bisection over the bits of the numbers, 31 passes and no sort: N may be a million pixels.
    """
    # Non-negative floats are ordered like their bits.
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)

    def step(i: Array, below: Array) -> Array:
        # The largest number that has at most `count` values strictly below it, bit by bit.
        trial = below | (1 << (30 - i))
        return jnp.where((bits < trial).sum(dtype=jnp.int32) <= count, trial, below)

    edge = lax.fori_loop(0, 31, step, varying_like(jnp.zeros((), jnp.int32), bits, count))
    inside, ties = bits < edge, bits == edge
    missing = count - inside.sum(dtype=jnp.int32)
    return inside | (ties & (jnp.cumsum(ties, dtype=jnp.int32) <= missing))


def _corners(noise: StrokeNoise, size: tuple[int, int], xp: Any) -> Array:
    """float[S, V + 1, 2]: rows and columns of the corners of the strokes, in pixels."""
    sides = xp.asarray(size, np.float32) - 1
    turn = TURN + TURN_RANGE * (2 * noise.turns[..., 0] - 1)
    side = 1 - 2 * (np.arange(turn.shape[-1]) % 2).astype(np.float32)
    angle = 2 * math.pi * noise.strokes[:, 2, None] + side * turn
    length = math.hypot(*size) / 4 * noise.turns[..., 1]
    moves = length[..., None] * xp.stack([xp.sin(angle), xp.cos(angle)], -1)

    def move(at: Array, by: Array) -> tuple[Array, Array]:
        # Mirrored at the border; what is longer than the image is cut off.
        to = xp.clip(sides - xp.abs(sides - xp.abs(at + by)), 0, sides)
        return to, to

    start, moves = noise.strokes[:, :2] * sides, xp.swapaxes(moves, 0, 1)
    if xp is np:
        path = np.stack(
            list(itertools.accumulate(moves, lambda at, by: move(at, by)[0], initial=start))
        )
        return path.swapaxes(0, 1)
    # A loop, which is compiled as a whole with and without jit: the same rounding in both.
    _, path = lax.scan(move, varying_like(start, moves), moves)
    return jnp.concatenate([start[:, None], jnp.swapaxes(path, 0, 1)], 1)


def stroke_distance(corners: Array, scale: Array, size: tuple[int, int], xp: Any = jnp) -> Array:
    """float[H, W] >= 0: squared distance to a stroke float[V + 1, 2], in radii, to be ranked.

    A stroke of scale 0 is infinitely far. `xp` is jax.numpy or numpy.
    """
    rows = np.arange(size[0], dtype=np.float32)[:, None]
    columns = np.arange(size[1], dtype=np.float32)
    # Squared and by a product: square roots and divisions would be most of the time.
    nearest = np.float32(FAR)
    for a, b in itertools.pairwise(corners):
        along = b - a
        unit = along / (along @ along + 1e-6)
        share = xp.clip((rows - a[0]) * unit[0] + (columns - a[1]) * unit[1], 0, 1)
        down, right = rows - a[0] - share * along[0], columns - a[1] - share * along[1]
        nearest = xp.minimum(nearest, xp.square(down) + xp.square(right))
    return xp.where(scale > 0, nearest * scale, FAR)


def area_range(area: Range) -> tuple[float, float]:
    """(lowest, highest) of an area that may be one number.

    Raises:
        ValueError: unless 0 <= low <= high <= 1.
    """
    low, high = (area, area) if isinstance(area, int | float) else area
    if not 0 <= low <= high <= 1:
        raise ValueError(f"area is a share of the image, 0 <= low <= high <= 1; got {area}")
    return low, high
