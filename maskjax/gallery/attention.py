"""The drawings of attention masks: what one token, in orange, sees of the photograph."""

from typing import Any

import numpy as np

from maskjax.gallery import shows
from maskjax.gallery.entry import Entry

FAMILY = "Attention: what the orange token sees"


def whole(matrix: Any) -> np.ndarray:
    """float[196, 196] in 0..1: bool, or real divided by its largest size; one row is repeated."""
    found = np.abs(np.asarray(matrix, np.float32))
    found = np.broadcast_to(found, (found.shape[-1], found.shape[-1]))
    return found / max(float(found.max()), 1e-9)


def _entry(title: str, source: str, code: str, **options: Any) -> Entry:
    options = {"show": shows.attention, "matrix": whole, **options}
    return Entry(FAMILY, title, source, code, **options)


OWNER = "owner = regions.segment_shares(segments, (16, 16), num_segments=8).argmax(-2)\n"
ATTENTION = (
    _entry("causal", "raster order", "masking.causal(196)"),
    _entry(
        "soft causal",
        "iLLaMA (Wang et al. 2024): gain after the softmax",
        "masking.soft_causal(196, {clear})",
        ratio=0.6,
    ),
    _entry("causal by chunks", "FIT (Chen and Li 2023)", "masking.chunk_causal(7, 28)"),
    _entry(
        "Gaussian mixture",
        "GMM masks (2023): factor before the softmax",
        "sigma, alpha = jnp.array([1.5, 5.0]), jnp.array([1.0, 0.6])\n"
        "masking.gaussian_mixture((14, 14), sigma, alpha)",
    ),
    _entry(
        "distance decay",
        "RetNet (Sun et al. 2023), on a grid",
        "attend.distance_decay((14, 14), 0.85)",
    ),
    _entry(
        "same owner",
        "MixedAE; sequences packed in a row",
        f"{OWNER}attend.same_owner(owner)",
    ),
    _entry(
        "valid keys",
        "nobody attends to padding",
        "valid = ~masking.random(key, (14, 14), num_visible={visible}).hidden()\n"
        "masking.valid_keys(valid)",
    ),
    _entry(
        "partly valid keys",
        "bias log(share); SuperInpaint (2023), our reading",
        "hole = masking.irregular(key, (112, 112), area={ratio} / 2)\n"
        "share = 1 - pyramid.share(hole, 8).reshape(196)\n"
        "attention_ops.key_bias(share)",
        show=lambda bias, scene, seed: shows.attention(np.exp(bias), scene, seed),
        matrix=lambda bias: whole(np.exp(bias)),
    ),
    _entry(
        "unblock if empty",
        "Mask2Former (Cheng et al. 2022)",
        f"{OWNER}allow = attend.same_owner(owner) & (weights > {{ratio}})\n"
        "masking.unblock_empty(allow)",
        ratio=0.6,
    ),
    Entry(
        FAMILY,
        "key-masked attention",
        "DesignEdit (2024): the middle is made of the rest",
        "value = masking.patchify(x[0], (4, 4))\n"
        "query = value - value.mean(0)\n"
        "query = query / jnp.linalg.norm(query, axis=-1, keepdims=True)\n"
        "split = masking.center_out(key, (28, 28), num_visible=4 * {visible}, max_shift=0.2)\n"
        "masking.key_masked_attention(700 * query, query, value, ~split.hidden(), "
        'mode="neg_inf")',
        shows.patches,
        ratio=0.25,
    ),
)
