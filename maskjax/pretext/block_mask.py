"""Masks of rectangles, or random ones, from entries of `config.model` (BEiT, CAE)."""

import dataclasses

import jax
from jax import Array
from ml_collections import ConfigDict

from maskjax import masking, options
from maskjax.masking import Draws, TokenSplit
from maskjax.masking.blocks import TRIES, BlockNoise, Law, check_block
from maskjax.method import require

# A group `mask` of `config.model`, for DEFAULTS; the sizes are those of BEiT and CAE.
MASK = {
    "law": "block",  # or "random"
    "min_block": 16,  # tokens of a rectangle
    "max_block": 0,  # 0 = as many as are hidden
    "min_aspect": 0.3,  # smallest height / width; the largest is its inverse
}


@dataclasses.dataclass(frozen=True)
class BlockMask:
    """How masks are drawn, with exactly `num_visible` visible tokens.

    Attributes:
        grid: (rows, columns) of the patches.
        num_visible: K.
        law: of `masking.block`; None = uniformly random.
        min_block, max_block, min_aspect: as in `MASK`.
    """

    grid: tuple[int, int]
    num_visible: int
    law: Law | None
    min_block: int
    max_block: int
    min_aspect: float

    def sample(self, draws: Draws) -> TokenSplit:
        """Which patches each image shows; draws "mask", or "mask/tries" and "mask/fill"."""
        num_tokens = self.grid[0] * self.grid[1]
        if self.law is None:
            noise = draws.uniform("mask", (num_tokens,))
            return masking.random(noise, self.grid, num_visible=self.num_visible)
        tries = draws.uniform("mask/tries", (TRIES[self.law], 4))
        return jax.vmap(self._blocks)(tries, draws.uniform("mask/fill", (num_tokens,)))

    def _blocks(self, tries: Array, fill: Array) -> TokenSplit:
        return masking.block(
            BlockNoise(tries, fill),
            self.grid,
            num_visible=self.num_visible,
            law=self.law,
            min_block=self.min_block,
            max_block=self.max_block or None,
            min_aspect=self.min_aspect,
        )


def block_mask(cfg: ConfigDict, grid: tuple[int, int], law: Law) -> BlockMask:
    """The masks of `config.model`, from mask_ratio and the group `mask` (entries of `MASK`).

    Args:
        cfg: `config.model`.
        grid: (rows, columns) of the patches.
        law: of the method's blocks.

    Raises:
        UserError: naming the entry that does not fit.
    """
    mask = cfg.mask
    require(mask.law in ("block", "random"), "model.mask.law", mask.law, "block or random")
    num_visible = options.visible_tokens(cfg.mask_ratio, grid[0] * grid[1])
    sizes = (mask.min_block, mask.max_block, mask.min_aspect)
    if mask.law == "random":
        return BlockMask(grid, num_visible, None, *sizes)
    try:
        check_block(grid, num_visible, law, sizes[0], sizes[1] or None, sizes[2])
    except ValueError as error:
        require(False, "model.mask", mask.to_dict(), str(error))
    return BlockMask(grid, num_visible, law, *sizes)
