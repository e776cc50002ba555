"""The two values that say which tokens go where: `TokenSplit` and `TokenSet`."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenSplit:
    """A permutation of the tokens, cut into parts of static size.

    Two parts (`cuts=(K,)`) are visible | hidden. Three (`cuts=(K, K + M)`) are
    visible | predicted | ignored, as in VideoMAE V2 and ENAT.

    Attributes:
        ids: int32[..., N], a permutation of 0..N-1; the first part comes first.
        cuts: static, non-decreasing positions in 0..N where a new part begins.

    Raises:
        ValueError: if the cuts decrease or lie outside 0..N.
    """

    ids: Array
    cuts: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        edges = (0, *self.cuts)
        # Transformations rebuild the class with placeholders for `ids`, which have no shape.
        shape = getattr(self.ids, "shape", None)
        if shape:
            edges += (shape[-1],)
        if not self.cuts or list(edges) != sorted(edges):
            tokens = f"{shape[-1]} tokens" if shape else "the tokens"
            raise ValueError(f"cuts {self.cuts} must not decrease and must lie within {tokens}")

    @property
    def num_tokens(self) -> int:
        """N, the number of tokens."""
        return self.ids.shape[-1]

    @property
    def num_visible(self) -> int:
        """K, the number of visible tokens."""
        return self.cuts[0]

    @property
    def num_hidden(self) -> int:
        """N - K, the number of tokens that are not visible."""
        return self.num_tokens - self.cuts[0]

    def part(self, i: int) -> Array:
        """int32[..., size of part i]: the ids of part `i`; a slice, free."""
        edges = (0, *self.cuts, self.num_tokens)
        if not 0 <= i < len(edges) - 1:
            raise ValueError(f"part {i} does not exist: cuts {self.cuts} make {len(edges) - 1}")
        return self.ids[..., edges[i] : edges[i + 1]]

    @property
    def visible_ids(self) -> Array:
        """int32[..., K]: ids of the visible tokens; a slice, free."""
        return self.ids[..., : self.cuts[0]]

    @property
    def hidden_ids(self) -> Array:
        """int32[..., N - K]: ids of all tokens that are not visible; a slice, free."""
        return self.ids[..., self.cuts[0] :]

    def inverse(self) -> Array:
        """int32[..., N]: where each token went (`ids_restore` of MAE). Costs one more sort."""
        return jnp.argsort(self.ids, axis=-1).astype(self.ids.dtype)

    def hidden(self) -> Array:
        """bool[..., N] in raster order, True = not visible. Costs one more sort."""
        return self.inverse() >= self.cuts[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenSet:
    """Some of the tokens: sets that may overlap, be padded or be ragged (targets, regions, boxes).

    Attributes:
        ids: int32[..., K], token ids; what stands at padded places is any valid id.
        valid: bool[..., K], False = padding.
    """

    ids: Array
    valid: Array

    def count(self) -> Array:
        """int32[...]: how many ids are valid."""
        return self.valid.sum(-1, dtype=jnp.int32)

    def members(self, num_tokens: int) -> Array:
        """bool[..., N]: True for each of the `num_tokens` tokens that is in the set."""
        tokens = jnp.arange(num_tokens, dtype=self.ids.dtype)
        return ((self.ids[..., None] == tokens) & self.valid[..., None]).any(-2)
