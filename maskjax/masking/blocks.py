"""Block-wise masks: rectangles until the count is reached (BEiT, CAE)."""

import math
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from maskjax.masking.noise import noise_of, varying_like
from maskjax.masking.sampling import from_scores
from maskjax.masking.split import TokenSplit

Law = Literal["beit", "cae"]
# Enough that on grids up to 32 x 32 about one mask in 1,000 or fewer runs out of tries.
TRIES: dict[Law, int] = {"beit": 96, "cae": 192}
# BEiT gives up when so many rectangles in a row do not fit.
PATIENCE = 10


class BlockNoise(NamedTuple):
    """What `block` consumes, uniform in [0, 1).

    Attributes:
        tries: float[T, 4], one rectangle a row: area, aspect ratio, top, left.
        fill: float[N], which tokens even out the count.
    """

    tries: Array
    fill: Array


def block(
    noise_or_key: BlockNoise | Array,
    grid: tuple[int, int],
    *,
    num_visible: int,
    law: Law = "beit",
    min_block: int = 16,
    max_block: int | None = None,
    min_aspect: float = 0.3,
    num_tries: int | None = None,
) -> TokenSplit:
    """Hides rectangles until exactly N - K tokens are hidden.

    A try: with R tokens left to hide and c = min(R, max_block), draw an area from
    U(min_block, c) (bounds in either order), an aspect ratio from exp U(log a, -log a), sides
    round(sqrt(area * aspect)) and round(sqrt(area / aspect)), and a place, all places alike. It is
    taken if it is lower and narrower than the grid and covers 1..c new tokens.

    "cae": tries go on until the count is reached, the law of CAE's code (Chen et al. 2022). The
    number of tries is static here; a mask that has not ended by then is filled up as below.
    "beit": the mask ends when ten tries in a row fail (BEiT, Bao et al. 2022, algorithm 1; its code
    from memory), which leaves about one mask in three a few tokens short. Those are filled up, a
    choice of ours: tokens with the most hidden neighbours first, so the shape stays blocky.

    The law is sequential: `num_tries` dependent steps. Tokens in the centre are hidden more often
    than those at the border, as in the originals; no position is left out.

    Args:
        noise_or_key: one typed PRNG key, or the noise.
        grid: (rows, columns), each at least 2; N is their product.
        num_visible: K in 0..N, static.
        law: "beit" or "cae".
        min_block, max_block: tokens of a rectangle; the largest is N - K by default.
        min_aspect: smallest height / width, in (0, 1]; the largest is its inverse.
        num_tries: T, static; by default 96 ("beit") or 192 ("cae").

    Returns:
        TokenSplit with ids int32[N] and cuts (K,); the order inside the parts has no meaning.

    Raises:
        ValueError: if K is outside 0..N, the grid is too thin for a rectangle, or an option is
            outside its range.
    """
    num_tokens = math.prod(grid)
    check_block(grid, num_visible, law, min_block, max_block, min_aspect)
    num_tries = TRIES[law] if num_tries is None else num_tries
    num_hidden = num_tokens - num_visible
    noise = noise_or_key
    if not isinstance(noise, BlockNoise):
        noise = _draw(noise, num_tokens, num_tries)
    chex.assert_shape(noise.tries, (None, 4))
    chex.assert_shape(noise.fill, (num_tokens,))

    largest = num_hidden if max_block is None else max_block
    patience = PATIENCE if law == "beit" else len(noise.tries)
    hidden = _cover(noise.tries, grid, num_hidden, (min_block, largest), min_aspect, patience)
    # Covered tokens last, and before them those that touch most covered ones: one sort does both.
    scores = jnp.where(hidden.reshape(-1), 9.0, _neighbours(hidden).reshape(-1) + noise.fill)
    return from_scores(scores, num_visible=num_visible)


def _draw(key: Array, num_tokens: int, num_tries: int) -> BlockNoise:
    tries, fill = jax.random.split(key)
    return BlockNoise(noise_of(tries, (num_tries, 4)), noise_of(fill, (num_tokens,)))


def _cover(
    tries: Array,
    grid: tuple[int, int],
    num_hidden: int,
    block_range: tuple[int, int],
    min_aspect: float,
    patience: int,
) -> Array:
    """bool[rows, columns]: the union of the rectangles that were taken, at most `num_hidden`."""

    def step(state: tuple[Array, Array, Array], noise: Array):
        hidden, count, failures = state
        cap = jnp.minimum(num_hidden - count, block_range[1])
        area = block_range[0] + noise[0] * (cap - block_range[0])
        rectangle, fits = _rectangle(area, noise[1:], grid, min_aspect)
        new = (rectangle & ~hidden).sum(dtype=jnp.int32)
        taken = fits & (new > 0) & (new <= cap) & (failures < patience)
        failures = jnp.where(taken, 0, failures + 1)
        return (hidden | (rectangle & taken), count + new * taken, failures), None

    zero = jnp.zeros((), jnp.int32)
    start = varying_like((jnp.zeros(grid, bool), zero, zero), tries)
    return lax.scan(step, start, tries)[0][0]


def _rectangle(
    area: Array, noise: Array, grid: tuple[int, int], min_aspect: float
) -> tuple[Array, Array]:
    """bool[rows, columns] and bool[]: a rectangle, and whether it is smaller than the grid."""
    aspect = jnp.exp(math.log(min_aspect) * (1 - 2 * noise[0]))
    sides = (jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect)))
    inside = []
    for side, length, where in zip(sides, grid, noise[1:], strict=True):
        # The last place is length - side, included; the minimum guards against rounding up to 1.
        start = jnp.minimum(jnp.floor(where * (length - side + 1)), length - side)
        places = jnp.arange(length)
        inside.append((places >= start) & (places < start + side))
    fits = (sides[0] < grid[0]) & (sides[1] < grid[1])
    return inside[0][:, None] & inside[1], fits


def _neighbours(hidden: Array) -> Array:
    """float[rows, columns]: how many of the four neighbours are hidden."""
    rows, columns = hidden.shape
    padded = jnp.pad(hidden.astype(jnp.float32), 1)
    shifts = ((0, 1), (2, 1), (1, 0), (1, 2))
    return sum(padded[i : i + rows, j : j + columns] for i, j in shifts)


def check_block(
    grid: tuple[int, int],
    num_visible: int,
    law: str,
    min_block: int,
    max_block: int | None,
    min_aspect: float,
):
    """Refuses what `block` cannot do.

    Raises:
        ValueError: naming the argument.
    """
    if law not in TRIES:
        raise ValueError(f"law must be 'beit' or 'cae', got {law!r}")
    if len(grid) != 2 or min(grid) < 2:
        raise ValueError(f"block needs a grid of at least 2 x 2 tokens, got {grid}; use `random`")
    if not 0 <= num_visible <= math.prod(grid):
        raise ValueError(f"num_visible must be in 0..{math.prod(grid)}, got {num_visible}")
    if min_block < 1 or (max_block is not None and max_block < min_block):
        found = f"got min_block={min_block}, max_block={max_block}"
        raise ValueError(f"1 <= min_block <= max_block tokens are needed; {found}")
    if not 0 < min_aspect <= 1:
        raise ValueError(f"min_aspect must be in (0, 1], got {min_aspect}")
