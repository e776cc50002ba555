"""Which patches a network goes on with: random ones, or the least redundant ones."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from maskjax import masking, options
from maskjax.masking import Draws, TokenSplit
from maskjax.masking.progressive import keep_counts, progressive
from maskjax.method import require

Kind = Literal["progressive", "direct", "random", "none"]
KINDS = get_args(Kind)

# A group `mask` of `config.model`, for DEFAULTS. No value here is confirmed by a source.
MASK = {
    "kind": "progressive",  # "direct": all at once, "random": all at once, "none": no mask
    "ratio": 0.65,  # hidden at the end
    "points": (),  # blocks in front of which tokens leave; () = 0, depth / 3, 2 depth / 3
    "num_keep": (),  # patches after each point; () = an equal share leaves at each
    "num_anchors": 0,  # of how many others redundancy is the mean; 0 = of all
}


@dataclasses.dataclass(frozen=True)
class RedundancyMask:
    """Masks with static counts, for one configuration.

    Attributes:
        kind: see `MASK`.
        grid: (rows, columns) of the patches.
        points: blocks in front of which tokens leave, from 0 on, rising.
        num_keep: patches after each point, not rising.
        num_anchors: None = all.
    """

    kind: Kind
    grid: tuple[int, int]
    points: tuple[int, ...]
    num_keep: tuple[int, ...]
    num_anchors: int | None

    @property
    def counts(self) -> dict[int, int]:
        """{block: how many patches it and the later ones see}."""
        return dict(zip(self.points, self.num_keep, strict=True))

    @property
    def guided(self) -> bool:
        """Whether a teacher's features decide."""
        return self.kind in ("progressive", "direct")

    def sample(self, draws: Draws, features: Sequence[Array], num_images: int) -> TokenSplit:
        """Ids int32[B, N] in the order in which patches stay: those that leave first come last.

        Args:
            draws: "mask" for random masks, "anchors" where there are some.
            features: for each point, float[B, N, D] of all patches; unused unless `guided`.
            num_images: B.
        """
        num_tokens = self.grid[0] * self.grid[1]
        if self.kind == "none":
            ids = jnp.arange(num_tokens, dtype=jnp.int32)
            return TokenSplit(jnp.broadcast_to(ids, (num_images, num_tokens)), (num_tokens,))
        if self.kind == "random":
            noise = draws.uniform("mask", (num_tokens,))
            return masking.random(noise, self.grid, num_visible=self.num_keep[-1])
        noise = None
        if self.num_anchors:
            drawn = draws.uniform("anchors", (len(self.points), num_tokens))
            noise = [drawn[:, point] for point in range(len(self.points))]

        def one(features: Sequence[Array], noise: Sequence[Array] | None) -> TokenSplit:
            shared = {"noise_or_key": noise, "num_anchors": self.num_anchors}
            return progressive(features, self.num_keep, **shared)

        return jax.vmap(one)(list(features), noise)


def redundancy_mask(cfg: ConfigDict, grid: tuple[int, int], depth: int) -> RedundancyMask:
    """The masks of `config.model`, whose group `mask` has the entries of `MASK`.

    Args:
        cfg: `config.model`.
        grid: (rows, columns) of the patches.
        depth: blocks of the network.

    Raises:
        UserError: naming the entry that does not fit.
    """
    mask, num_tokens = cfg.mask, grid[0] * grid[1]
    require(mask.kind in KINDS, "model.mask.kind", mask.kind, " or ".join(KINDS))
    points = (0,)
    if mask.kind == "progressive":
        points = tuple(mask.points) or (0, depth // 3, 2 * depth // 3)
        rising = all(a < b for a, b in itertools.pairwise(points))
        fits = rising and points[0] == 0 and points[-1] < depth
        require(fits, "model.mask.points", points, f"must rise from 0 to {depth - 1} at most")
    if mask.kind == "none":
        return RedundancyMask("none", grid, points, (num_tokens,), None)
    counts = tuple(mask.num_keep)
    if not counts:
        options.visible_tokens(mask.ratio, num_tokens, "model.mask.ratio")
        counts = keep_counts(num_tokens, mask.ratio, len(points))
    falls = all(a >= b for a, b in itertools.pairwise((num_tokens, *counts, 1)))
    what = f"must be {len(points)} numbers that do not rise, in 1..{num_tokens}"
    require(falls and len(counts) == len(points), "model.mask.num_keep", counts, what)
    anchors = mask.num_anchors
    fits = anchors == 0 or 2 <= anchors <= num_tokens
    require(fits, "model.mask.num_anchors", anchors, f"must be 0, or 2..{num_tokens}")
    return RedundancyMask(mask.kind, grid, points, counts, anchors or None)
