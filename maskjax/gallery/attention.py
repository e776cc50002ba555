"""The drawings of attention masks: what one token, in orange, sees of the photograph."""

from collections.abc import Callable
from typing import Any

import numpy as np

from maskjax.gallery import shows
from maskjax.gallery.entry import Entry

FAMILY = "Attention: what the orange token sees"
ATTEND = "from maskjax.masking import attend"


def whole(matrix: Any) -> np.ndarray:
    """float[Q, K] in 0..1: bool, or real divided by its largest size."""
    found = np.abs(np.asarray(matrix, np.float32))
    return found / max(float(found.max()), 1e-9)


def _entry(title: str, source: str, code: str, imports: str = ATTEND, **options: Any) -> Entry:
    matrix: Callable[[Any], np.ndarray] = options.pop("matrix", whole)
    return Entry(FAMILY, title, source, imports, code, shows.attention, matrix=matrix, **options)


ENTRIES = (
    _entry("causal", "raster order", "attend.causal(196)"),
    _entry(
        "soft causal",
        "iLLaMA (Wang et al. 2024): gain after the softmax",
        "attend.soft_causal(196, {clear})",
        ratio=0.6,
    ),
    _entry("causal by chunks", "FIT (Chen and Li 2023)", "attend.chunk_causal(7, 28)"),
    _entry(
        "Gaussian mixture",
        "GMM masks (2023): factor before the softmax",
        "sigma, alpha = jnp.array([1.5, 5.0]), jnp.array([1.0, 0.6])\n"
        "attend.gaussian_mixture((14, 14), sigma, alpha)",
        "import jax.numpy as jnp\nfrom maskjax.masking import attend",
    ),
    _entry(
        "distance decay",
        "RetNet (Sun et al. 2023), on a grid",
        "attend.distance_decay((14, 14), 0.85)",
    ),
    _entry(
        "same owner",
        "MixedAE; sequences packed in a row",
        "owner = segment_shares(segments, (16, 16), num_segments=8).argmax(-2)\n"
        "attend.same_owner(owner)",
        "from maskjax.masking import attend\nfrom maskjax.masking.regions import segment_shares",
    ),
    _entry(
        "valid keys",
        "nobody attends to padding",
        "valid = ~random(key, (14, 14), num_visible={visible}).hidden()\nattend.valid_keys(valid)",
        "from maskjax.masking import attend, random",
        matrix=lambda allow: whole(np.repeat(allow, 196, 0)),
    ),
    _entry(
        "partly valid keys",
        "bias log(share); SuperInpaint (2023), our reading",
        "hole = irregular(key, (112, 112), area={ratio} / 2)\n"
        "share = 1 - pyramid.share(hole, 8).reshape(196)\n"
        "jnp.exp(key_bias(share))",
        "import jax.numpy as jnp\nfrom maskjax.masking import pyramid\n"
        "from maskjax.masking.attention_ops import key_bias\n"
        "from maskjax.masking.holes import irregular",
        matrix=lambda share: whole(np.repeat(share, 196, 0)),
    ),
    _entry(
        "unblock if empty",
        "Mask2Former (Cheng et al. 2022)",
        "owner = segment_shares(segments, (16, 16), num_segments=8).argmax(-2)\n"
        "allow = attend.same_owner(owner) & (weights > {ratio})\n"
        "unblock_empty(allow)",
        "from maskjax.masking import attend\n"
        "from maskjax.masking.attention_ops import unblock_empty\n"
        "from maskjax.masking.regions import segment_shares",
        ratio=0.6,
    ),
    Entry(
        FAMILY,
        "key-masked attention",
        "DesignEdit (2024): the middle is made of the rest",
        "import jax.numpy as jnp\nfrom maskjax.masking import patchify\n"
        "from maskjax.masking.attention_ops import key_masked_attention\n"
        "from maskjax.masking.center import center_out",
        "value = patchify(x[0], (4, 4))\n"
        "unit = value - value.mean(0)\n"
        "unit = unit / jnp.linalg.norm(unit, axis=-1, keepdims=True)\n"
        "keep = ~center_out(key, (28, 28), num_visible=4 * {visible}, max_shift=0.2).hidden()\n"
        'key_masked_attention(700 * unit, unit, value, keep, mode="neg_inf")',
        shows.patches,
        ratio=0.25,
    ),
)
