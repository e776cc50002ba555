"""Every generator as a function of (key, grid, number of visible tokens), for property tests."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maskjax import masking
from maskjax.masking import TokenSplit, confidence, mixing, progressive, regions

Grid = tuple[int, int]
BANK = np.random.default_rng(0).random((3, 14, 16)).astype(np.float32)


def area(grid: Grid) -> int:
    return math.prod(grid)


def any_count(grid: Grid) -> Sequence[int]:
    return range(area(grid) + 1)


class Law(NamedTuple):
    """A generator; grids have even sides.

    Attributes:
        draw: (key, grid, K) -> what it returns for one example.
        counts: grid -> every K that it can meet, ascending.
        tokens: grid -> N.
        hidden: what it returns -> bool[N].
        says: what the message of a refusal must name, of (K, N - K); None if no count is refused.
    """

    draw: Callable[[Any, Grid, int], Any]
    counts: Callable[[Grid], Sequence[int]] = any_count
    tokens: Callable[[Grid], int] = area
    hidden: Callable[[Any], Any] = TokenSplit.hidden
    says: Callable[[int, int], str] | None = lambda visible, hidden: str(visible)


def plain(generator, **options) -> Law:
    return Law(lambda key, grid, num: generator(key, grid, num_visible=num, **options))


def weights(key, grid):
    return jax.random.uniform(jax.random.fold_in(key, 7), (area(grid),))


def tube(key, grid, num):
    return masking.tube(key, (3, *grid), num_visible=num)


def running_cell(key, grid, num):
    return masking.running_cell(key, (5, *grid), num_visible=num)


def modalities_of(grid):
    return (area(grid), grid[0], 1)


def dirichlet(**options):
    def draw(key, grid, num):
        return masking.dirichlet(key, modalities_of(grid), num_visible=num, **options)

    total = lambda grid: sum(modalities_of(grid))  # noqa: E731
    return Law(draw, lambda grid: range(total(grid) + 1), total)


def easy_to_hard(key, grid, num):
    most = area(grid) - num
    hard = jax.random.randint(jax.random.fold_in(key, 9), (), 0, max(most, 0) + 1)
    return masking.easy_to_hard(key, weights(key, grid), num_visible=num, num_hard=hard)


def hide_regions(key, grid, num):
    owner = jnp.arange(area(grid)) // 3 - 1
    return regions.hide_regions(key, owner, num_visible=num, num_regions=2)


def one_region(key, grid, num):
    members = jnp.ones(area(grid), bool)
    return masking.region(members, max_tokens=num, noise_or_key=key)[0].members(area(grid))


def from_hidden(key, grid, num):
    return masking.from_hidden(weights(key, grid) < 0.4, num_visible=num)[0]


def dropped(key, grid, num):
    features = jax.random.normal(key, (2, area(grid), 3))
    return progressive.progressive(list(features), ((area(grid) + num + 1) // 2, num))


def hide(key, grid, num):
    return confidence.hide(key, area(grid), area(grid) - num)


def hide_more(key, grid, num):
    missing = area(grid) - num
    first = confidence.hide(jax.random.fold_in(key, 1), area(grid), missing // 2)
    return confidence.hide_more(key, first, missing - missing // 2)


def revealed(key, grid, num):
    split = confidence.all_hidden(area(grid))
    return confidence.reveal(weights(key, grid), split, num_hidden=area(grid) - num)


def one_of_a_group(key, grid, num):
    owner = masking.groups_mix(key, grid, num_images=area(grid) // num)
    return mixing.hidden_of(owner, area(grid) // num)[0]


def strokes(key, grid, num):
    share = (area(grid) - num) / area(grid)
    options = {"num_strokes": (1, 2), "num_turns": 2}
    return masking.irregular(key, grid, area=share, **options).reshape(-1)


def hidden_too(visible: int, hidden: int) -> str:
    return str(hidden)


LAWS = {
    "random": plain(masking.random),
    "random, raster": plain(masking.random, order="raster"),
    "grid": Law(plain(masking.grid).draw, lambda grid: range(0, area(grid) + 1, area(grid) // 4)),
    "coarse": plain(masking.coarse, cell=2),
    "coarse, uneven": plain(masking.coarse, cell=1.5),
    "block, BEiT": plain(masking.block, min_block=2, num_tries=24),
    "block, CAE": plain(masking.block, min_block=2, num_tries=24, law="cae"),
    "center_out": plain(masking.center_out, max_shift=0.4),
    "center_out, border": plain(masking.center_out, hide="border", shape="disc"),
    "hide_regions": Law(hide_regions),
    "region": Law(one_region, hidden=jnp.logical_not),
    "from_hidden": Law(from_hidden),
    "irregular": Law(
        strokes, hidden=jnp.asarray, says=lambda visible, hidden: "area is a share of the image"
    ),
    "tube": Law(tube, lambda grid: range(0, 3 * area(grid) + 1, 3), lambda grid: 3 * area(grid)),
    "running_cell": Law(
        running_cell,
        lambda grid: [5 * area(grid) * i // 4 for i in range(5)],
        lambda grid: 5 * area(grid),
    ),
    **{
        f"colored, {color}": plain(masking.colored, color=color, edges=edges)
        for color, edges in (("green", "crop"), ("red", "wrap"), ("blue", "wrap"))
    },
    "colored, purple": plain(masking.colored, color="purple", sigmas=(0.3, 0.6)),
    "colored_from_bank": Law(
        lambda key, grid, num: masking.colored_from_bank(key, BANK, grid, num_visible=num)
    ),
    "sampled": Law(
        lambda key, grid, num: masking.sampled(key, weights(key, grid), num_visible=num)
    ),
    "ranked": Law(lambda key, grid, num: masking.ranked(weights(key, grid), num_visible=num)),
    "easy_to_hard": Law(easy_to_hard),
    "dirichlet": dirichlet(),
    "dirichlet, subsets": dirichlet(subsets=True, alpha=0.5),
    "progressive": Law(dropped),
    "confidence.hide": Law(hide, hidden=jnp.asarray, says=hidden_too),
    "confidence.reveal": Law(revealed, says=hidden_too),
    # It hides all if fewer are visible than it is asked to hide.
    "confidence.hide_more": Law(hide_more, hidden=jnp.asarray, says=None),
    "groups_mix": Law(
        one_of_a_group,
        lambda grid: [i for i in range(1, area(grid) + 1) if area(grid) % i == 0],
        hidden=jnp.asarray,
        says=None,
    ),
}
