"""Pure masking operations on arrays: the importable library.

Needs jax, numpy, chex and einops only. Everything is per example; `jax.vmap` batches it, and the
operations that take arrays also accept leading batch dimensions.

    from maskjax import masking

    split = masking.random(jax.random.key(0), grid=(14, 14), num_visible=49)
    visible = masking.tokens.gather(patches, split.visible_ids)

Here are the values and the generators; operations are in the modules `tokens`, `patches`, `reduce`,
`ragged`, `boxes`, `pyramid`, `morphology`, `conv`, `pool`, `conv_norm`, `neighbour`,
`attention_ops`, `guided`, `hierarchy`, `mixing`, `confidence`, `progressive`, `weights`, `units`,
`schedules`, `host` (NumPy).
"""

from maskjax.masking import (
    attend,
    attention_ops,
    banks,
    boxes,
    confidence,
    conv,
    conv_norm,
    counts,
    guided,
    hierarchy,
    host,
    mixing,
    modalities,
    morphology,
    neighbour,
    noise_filters,
    patches,
    pool,
    progressive,
    pyramid,
    ragged,
    reduce,
    regions,
    schedules,
    tokens,
    units,
    video,
    weights,
    windows,
)
from maskjax.masking.attend import (
    causal,
    chunk_causal,
    gaussian_mixture,
    soft_causal,
    soft_causal_schedule,
    valid_keys,
)
from maskjax.masking.attention_ops import key_masked_attention, unblock_empty
from maskjax.masking.banks import load_bank, save_bank
from maskjax.masking.blocks import block
from maskjax.masking.cells import coarse
from maskjax.masking.center import center_out
from maskjax.masking.colors import colored, colored_from_bank
from maskjax.masking.draws import Draws
from maskjax.masking.fused import fused
from maskjax.masking.grid_cells import grid
from maskjax.masking.guided import easy_to_hard, ranked, sampled
from maskjax.masking.holes import box, irregular
from maskjax.masking.mixing import groups_mix
from maskjax.masking.modalities import dirichlet
from maskjax.masking.multi_blocks import multiblock
from maskjax.masking.patches import patchify, unpatchify
from maskjax.masking.regions import region
from maskjax.masking.sampling import count_visible, from_hidden, from_scores, random
from maskjax.masking.split import TokenSet, TokenSplit
from maskjax.masking.video import running_cell, tube

__all__ = [
    "Draws",
    "TokenSet",
    "TokenSplit",
    "attend",
    "attention_ops",
    "banks",
    "block",
    "box",
    "boxes",
    "causal",
    "center_out",
    "chunk_causal",
    "coarse",
    "colored",
    "colored_from_bank",
    "confidence",
    "conv",
    "conv_norm",
    "count_visible",
    "counts",
    "dirichlet",
    "easy_to_hard",
    "from_hidden",
    "from_scores",
    "fused",
    "gaussian_mixture",
    "grid",
    "groups_mix",
    "guided",
    "hierarchy",
    "host",
    "irregular",
    "key_masked_attention",
    "load_bank",
    "mixing",
    "modalities",
    "morphology",
    "multiblock",
    "neighbour",
    "noise_filters",
    "patches",
    "patchify",
    "pool",
    "progressive",
    "pyramid",
    "ragged",
    "random",
    "ranked",
    "reduce",
    "region",
    "regions",
    "running_cell",
    "sampled",
    "save_bank",
    "schedules",
    "soft_causal",
    "soft_causal_schedule",
    "tokens",
    "tube",
    "unblock_empty",
    "units",
    "unpatchify",
    "valid_keys",
    "video",
    "weights",
    "windows",
]
