"""Pure masking operations on arrays: the importable library.

Needs jax, numpy, chex and einops only. Everything is per example; `jax.vmap` batches it, and the
operations that take arrays also accept leading batch dimensions.

    from maskjax import masking

    split = masking.random(jax.random.key(0), grid=(14, 14), num_visible=49)
    visible = masking.tokens.gather(patches, split.visible_ids)
"""

from maskjax.masking import patches, reduce, tokens
from maskjax.masking.draws import Draws
from maskjax.masking.patches import patchify, unpatchify
from maskjax.masking.sampling import count_visible, from_hidden, from_scores, random
from maskjax.masking.split import TokenSet, TokenSplit

__all__ = [
    "Draws",
    "TokenSet",
    "TokenSplit",
    "count_visible",
    "from_hidden",
    "from_scores",
    "patches",
    "patchify",
    "random",
    "reduce",
    "tokens",
    "unpatchify",
]
