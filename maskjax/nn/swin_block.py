"""Swin's block with shifted windows, and the merging of patches between its stages."""

import functools

import chex
import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from maskjax.nn import initializers
from maskjax.nn.attention import Attention, Implementation
from maskjax.nn.block import Mlp, scale_branch
from maskjax.nn.dense import Dense
from maskjax.nn.norm import LayerNorm
from maskjax.nn.relative import relative_bias

Grid = tuple[int, int]
REGION_BIAS = -100.0


def window_of(grid: Grid, window: int) -> tuple[int, int]:
    """(side, shift) of the windows of a stage: one that fits whole has one window and no shift."""
    if min(grid) <= window:
        return min(grid), 0
    return window, window // 2


@functools.lru_cache(maxsize=32)
def region_bias(grid: Grid, side: int, shift: int) -> np.ndarray:
    """float32[windows, side^2, side^2]: -100 between regions that the shift brought together.

    After the cyclic shift the last windows hold tokens from opposite ends of the image. Read-only.
    """
    regions = np.zeros(grid, np.int32)
    for axis, size in enumerate(grid):
        places = np.arange(size)
        band = (places >= size - side).astype(np.int32) + (places >= size - shift)
        regions += 3**axis * np.expand_dims(band, 1 - axis)
    owner = einops.rearrange(regions, "(r p) (c q) -> (r c) (p q)", p=side, q=side)
    bias = np.where(owner[:, :, None] == owner[:, None, :], 0, REGION_BIAS).astype(np.float32)
    bias.setflags(write=False)
    return bias


class SwinBlock(nn.Module):
    """x + attention(norm(x)) in windows, then x + mlp(norm(x)).

    Attributes:
        heads: attention heads.
        mlp_hidden: hidden width of the MLP.
        grid: (rows, columns) of the tokens.
        side: of the square windows; divides both.
        shift: by how many rows and columns the windows are shifted; 0 = not.
        eps: of the two LayerNorms.
        dtype: of matmul operands and of the residual stream.
        implementation: of the attention, see `Attention`.
    """

    heads: int
    mlp_hidden: int
    grid: Grid
    side: int
    shift: int = 0
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "einsum"

    @nn.compact
    def __call__(
        self, x: Array, branch_scale: Array | None = None, allow: None = None
    ) -> tuple[Array, dict[str, Array]]:
        """x [B, N, D] in raster order -> [B, N, D] and {tap: activation}.

        Args:
            x: tokens.
            branch_scale: as of `Block`.
            allow: must be None.

        Returns:
            Tokens and {"block": [B, N, D]; "query", "key", "value": [B, windows, heads, side^2, d];
            "attention": [B, windows, heads, side^2, side^2]}.
        """
        if allow is not None:
            raise ValueError("attention in windows takes no mask")
        chex.assert_axis_dimension(x, 1, self.grid[0] * self.grid[1])
        windows = self._to_windows(LayerNorm(self.eps, self.dtype, name="norm1")(x))
        mixed, seen = self._attend(windows)
        x = x + scale_branch(self._from_windows(mixed), branch_scale, 0)
        norm = LayerNorm(self.eps, self.dtype, name="norm2")(x)
        branch = Mlp(self.mlp_hidden, self.dtype, name="mlp")(norm)
        x = x + scale_branch(branch, branch_scale, 1)
        return x, {**seen, "block": x}

    def _attend(self, windows: Array) -> tuple[Array, dict[str, Array]]:
        """[B, windows, side^2, D] -> the same and what attention saw, windows on axis 1."""
        attention = Attention(
            self.heads, dtype=self.dtype, implementation=self.implementation, parent=None
        )
        params = self.param("attn", lambda key: attention.init(key, windows[:1, 0])["params"])
        shape = ((2 * self.side - 1) ** 2, self.heads)
        table = self.param("relative", initializers.token, shape)
        bias = relative_bias(table, (self.side, self.side))
        if self.shift:
            bias = bias + region_bias(self.grid, self.side, self.shift)[:, None]
        # Over the windows by vmap: their biases then need no copy for each image.
        attend = lambda x, bias: attention.apply({"params": params}, x, bias=bias)  # noqa: E731
        return jax.vmap(attend, in_axes=(1, 0 if self.shift else None), out_axes=1)(windows, bias)

    def _to_windows(self, x: Array) -> Array:
        """[B, N, D] -> [B, windows, side^2, D], after the cyclic shift."""
        x = einops.rearrange(x, "b (r c) d -> b r c d", r=self.grid[0])
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
        return einops.rearrange(x, "b (r p) (c q) d -> b (r c) (p q) d", p=self.side, q=self.side)

    def _from_windows(self, windows: Array) -> Array:
        """The inverse of `_to_windows`."""
        sizes = {"p": self.side, "r": self.grid[0] // self.side}
        x = einops.rearrange(windows, "b (r c) (p q) d -> b (r p) (c q) d", **sizes)
        if self.shift:
            x = jnp.roll(x, (self.shift, self.shift), (1, 2))
        return einops.rearrange(x, "b r c d -> b (r c) d")


class PatchMerging(nn.Module):
    """Two by two tokens, their channels side by side, through a norm and a matrix to half of them.

    Attributes:
        grid: (rows, columns) of the tokens, even.
        eps: of the norm.
        dtype: of the matmul operands and of the result.
    """

    grid: Grid
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [B, N, D] -> [B, N / 4, 2 D]; the order of the four is (row, column) 00, 10, 01, 11."""
        pattern = "b (r p c q) d -> b (r c) (q p d)"
        sizes = {"p": 2, "q": 2, "r": self.grid[0] // 2, "c": self.grid[1] // 2}
        x = LayerNorm(self.eps, self.dtype, name="norm")(einops.rearrange(x, pattern, **sizes))
        return Dense(x.shape[-1] // 2, use_bias=False, dtype=self.dtype, name="reduction")(x)
