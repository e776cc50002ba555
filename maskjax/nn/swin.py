"""Swin transformer: attention in shifted windows, at four resolutions (Liu et al., ICCV 2021).

As in the official code of Swin and of SimMIM: a norm after the patch projection, a table of
relative biases for each block, -100 between regions that only the cyclic shift brought together.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence

import flax.linen as nn
import numpy as np
from jax import Array

from maskjax.masking import tokens
from maskjax.nn import flops, initializers
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.stack import Stack
from maskjax.nn.swin_block import Grid, PatchMerging, SwinBlock, window_of
from maskjax.nn.vit import Compute, Size


@dataclasses.dataclass(frozen=True)
class SwinSize:
    """Sizes of all stages: each has half the rows and columns of the one before, twice its width.

    Attributes:
        dim: width of the first stage.
        depths, heads: blocks and attention heads of each stage.
        window: side of the windows, in tokens.
        mlp_ratio: how much wider the MLPs are.
    """

    dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mlp_ratio: float = 4.0

    @property
    def num_features(self) -> int:
        """Width of the last stage."""
        return self.dim * self.reduction

    @property
    def reduction(self) -> int:
        """By how much a side of the last stage's grid is smaller than that of the patches."""
        return 2 ** (len(self.depths) - 1)

    def stage(self, index: int) -> Size:
        """Width, depth and heads of a stage, as of a transformer of its own."""
        dim = self.dim * 2**index
        return Size(dim, self.depths[index], self.heads[index], self.mlp_ratio)

    def grids(self, grid: Grid) -> tuple[Grid, ...]:
        """(rows, columns) of tokens in each stage, from those of the patches.

        Raises:
            ValueError: if a grid is not halved evenly, or not divided by its windows: the official
                code has no padding.
        """
        grids = [grid]
        for _ in self.depths[1:]:
            if grids[-1][0] % 2 or grids[-1][1] % 2:
                raise ValueError(f"a grid of {grids[-1]} cannot be merged two by two")
            grids.append((grids[-1][0] // 2, grids[-1][1] // 2))
        for rows, columns in grids:
            side, _ = window_of((rows, columns), self.window)
            if rows % side or columns % side:
                raise ValueError(f"windows of {side} do not divide a grid of {rows, columns}")
        return tuple(grids)

    def slices(self) -> tuple[slice, ...]:
        """Where the blocks of each stage are among all blocks."""
        ends = tuple(itertools.accumulate(self.depths))
        return tuple(slice(end - depth, end) for end, depth in zip(ends, self.depths, strict=True))


# Liu et al. 2021, section 3.3, with the windows that SimMIM pretrains with at 192 pixels (those of
# tiny and small are as base's).
SWIN_SIZES = {
    "t": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), 6),
    "s": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24), 6),
    "b": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 6),
    "l": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


class SwinStage(nn.Module):
    """The blocks of one resolution, of which every other one shifts its windows, and the merging.

    Attributes:
        size: width, depth, heads.
        grid: (rows, columns) of the tokens.
        window: side of the windows, if the grid is larger.
        merge: whether the result is merged two by two for a next stage.
        compute: dtype, scan, remat, attention.
        drop_path: rates of the first and the last block.
        eps: of every LayerNorm.
    """

    size: Size
    grid: Grid
    window: int
    merge: bool
    compute: Compute = Compute()
    drop_path: tuple[float, float] = (0.0, 0.0)
    eps: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Array, *, taps: Sequence[str] = (), drop_noise: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] -> [B, N, D] or merged [B, N / 4, 2 D], and taps of the stack, or "merge"."""
        stack = self._stack()
        blocks = self.param("blocks", stack.init, self.size.dim)
        inner = tuple(tap for tap in taps if tap != "merge")
        x, seen = stack(blocks, x, taps=inner, drop_noise=drop_noise)
        if self.merge:
            merging = PatchMerging(self.grid, self.eps, self.compute.dtype, name="merge")
            x = constrain_batch(merging(x))
        return x, seen | ({"merge": x} if "merge" in taps else {})

    def _stack(self) -> Stack:
        side, shift = window_of(self.grid, self.window)
        size, compute = self.size, self.compute
        options = {"eps": self.eps, "dtype": compute.dtype, "implementation": compute.attention}
        block, shifted = (
            SwinBlock(size.heads, size.mlp_hidden, self.grid, side, s, **options, parent=None)
            for s in (0, shift)
        )
        num = self.grid[0] * self.grid[1]
        turns = (block, shifted) if shift else block
        drops = {"drop_path": self.drop_path, "init_tokens": num}
        return Stack(turns, size.depth, compute.scan, compute.remat, **drops)


class SwinEncoder(nn.Module):
    """All stages, over all patches of an image.

    Attributes:
        size: of the stages.
        grid: (rows, columns) of the patches.
        patch_dim: P, the number of values in a raw patch.
        compute: dtype, scan, remat, attention.
        with_mask: whether there is a mask token, for hidden patches (SimMIM).
        drop_path: rate of the last block of the last stage; it grows linearly from 0.
        eps: of every LayerNorm.
    """

    size: SwinSize
    grid: Grid
    patch_dim: int
    compute: Compute = Compute()
    with_mask: bool = False
    drop_path: float = 0.0
    eps: float = 1e-5

    def setup(self):
        size, compute = self.size, self.compute
        # The default values of a PyTorch convolution, as in the official code.
        spread = initializers.symmetric_uniform(1 / math.sqrt(self.patch_dim))
        options = {"kernel_init": spread, "bias_init": spread}
        self.patch_embed = Dense(size.dim, dtype=compute.dtype, first=True, **options)
        self.patch_norm = LayerNorm(self.eps, compute.dtype)
        if self.with_mask:
            self.mask_token = self.param("mask_token", initializers.token, (size.dim,))
        rates = [float(r) for r in np.linspace(0, self.drop_path, sum(size.depths))]
        for i, grid in enumerate(size.grids(self.grid)):
            drop, merge = rates[size.slices()[i]], i < len(size.depths) - 1
            options = (size.window, merge, compute, (drop[0], drop[-1]), self.eps)
            setattr(self, f"stage{i}", SwinStage(size.stage(i), grid, *options))
        self.norm = LayerNorm(self.eps)

    def __call__(
        self,
        patches: Array,
        *,
        hidden: Array | None = None,
        taps: Sequence[str] = (),
        drop_noise: Array | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Raw patches [B, N, P] in raster order -> tokens float32[B, M, F] and {tap: activation}.

        Args:
            patches: all patches of an image.
            hidden: bool[B, N], True = the mask token stands in, after the norm of the patches.
            taps: "s/TAP", TAP one of those of stage s (see `SwinStage`, `SwinBlock`).
            drop_noise: float32[B, number of all blocks, 2] for drop-path; None = none.

        Raises:
            ValueError: for hidden patches without a mask token, or an unknown tap.
        """
        x, seen = self.embed(patches), {}
        if hidden is not None:
            if not self.with_mask:
                raise ValueError("hidden patches need a mask token; this encoder has none")
            x = constrain_batch(tokens.replace(x, hidden, self.mask_token))
        for i, blocks in enumerate(self.size.slices()):
            inner = [tap.removeprefix(f"{i}/") for tap in taps if tap.startswith(f"{i}/")]
            noise = None if drop_noise is None else drop_noise[:, blocks]
            x, found = getattr(self, f"stage{i}")(x, taps=inner, drop_noise=noise)
            seen |= {f"{i}/{tap}": value for tap, value in found.items()}
        if unknown := set(taps) - set(seen):
            raise ValueError(f"unknown taps {sorted(unknown)}; they are named 'STAGE/TAP'")
        return constrain_batch(self.norm(x)), {tap: seen[tap] for tap in taps}

    def embed(self, patches: Array) -> Array:
        """Raw patches [B, N, P] -> tokens [B, N, D] after their norm, before mask tokens."""
        return constrain_batch(self.patch_norm(self.patch_embed(patches)))


def forward_flops(size: SwinSize, grid: Grid, patch_dim: int) -> int:
    """Matmul FLOPs of the encoder for one image."""
    grids = size.grids(grid)
    total = flops.linear(math.prod(grid), patch_dim, size.dim)
    for i, (rows, columns) in enumerate(grids):
        stage, (side, _) = size.stage(i), window_of((rows, columns), size.window)
        num = rows * columns
        total += num // side**2 * flops.transformer(side**2, stage)
        if i < len(grids) - 1:
            total += flops.linear(num // 4, 4 * stage.dim, 2 * stage.dim)
    return total


def layer_ids(size: SwinSize, prefix: str = "encoder/") -> Callable[[str], int | tuple[int, ...]]:
    """path -> depth id for layer-wise learning-rate decay, as SimMIM's fine-tuning numbers them.

    Patches and mask token are 0, block k of all stages in a row is k + 1, a merging has the id of
    the block before it, all the rest one more than the last block. Paths begin with `prefix`.
    """

    def layer(path: str) -> int | tuple[int, ...]:
        if path.startswith(tuple(prefix + name for name in ("patch_", "mask_token"))):
            return 0
        if found := re.match(rf"{re.escape(prefix)}stage(\d+)/(blocks|merge)/", path):
            blocks = size.slices()[int(found[1])]
            ids = tuple(range(blocks.start + 1, blocks.stop + 1))
            return ids if found[2] == "blocks" else ids[-1]
        return sum(size.depths) + 1

    return layer
