"""A ViT whose tokens leave on the way: the last ones are cut off between blocks."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from maskjax.nn import flops
from maskjax.nn.sharding import constrain_batch
from maskjax.nn.vit import Encoder, Size

# ({tap: activation} of a layer, its place among the probed ones of its part int32[]) -> array.
Probe = Callable[[Mapping[str, Array], Array], Array]


class ShrinkingEncoder(Encoder):
    """`Encoder`, and the same with ever fewer tokens."""

    def shrinking(
        self,
        patches: Array,
        ids: Array,
        counts: Mapping[int, int],
        *,
        probed: Sequence[int] = (),
        probe: Callable[[tuple[int, ...], int], Probe] | None = None,
    ) -> tuple[Array, Array | None]:
        """Patches [B, K, P] at `ids` -> latent float32[B, 1 + k, D] of the first k, and probes.

        Args:
            patches: in the order in which they stay: the last ones leave first.
            ids: int[B, K], which patch of the grid each one is.
            counts: {block: how many patches it and the later ones see}, with an entry for block 0.
            probed: blocks that are probed, rising.
            probe: (such blocks, patches that they see) -> what is worked out in each of them.

        Returns:
            The latent after the final norm, and what the probes gave, [len(probed), ...].
        """
        x, found = self.tokens(patches, ids), []
        for start, stop, count, is_probed in parts(self.size.depth, counts, probed):
            x = constrain_batch(x[:, : 1 + count])
            stack = dataclasses.replace(self.stack, depth=stop - start)
            params = jax.tree.map(lambda leaf: leaf[start:stop], self.blocks)  # noqa: B023
            probes = {"probe": probe(tuple(range(start, stop)), count)} if is_probed else None
            x, seen = stack(params, x, probes=probes)
            found += [seen["probe"]] if is_probed else []
        x = self.norm(x) if self.final_norm else x
        return constrain_batch(x), jnp.concatenate(found) if found else None


def parts(
    depth: int, counts: Mapping[int, int], probed: Sequence[int] = ()
) -> list[tuple[int, int, int, bool]]:
    """(first block, end, patches that they see, whether they are probed) of blocks that are alike.

    Arguments as of `ShrinkingEncoder.shrinking`.
    """
    now, alike = counts[0], []
    for block in range(depth):
        now = counts.get(block, now)
        alike.append((now, block in probed))
    borders = [0, *(i for i in range(1, depth) if alike[i] != alike[i - 1]), depth]
    return [(start, stop, *alike[start]) for start, stop in itertools.pairwise(borders)]


def forward_flops(size: Size, counts: Mapping[int, int]) -> int:
    """Matmul FLOPs of the blocks for one image."""
    return sum(
        flops.transformer(1 + count, dataclasses.replace(size, depth=stop - start))
        for start, stop, count, _ in parts(size.depth, counts)
    )
