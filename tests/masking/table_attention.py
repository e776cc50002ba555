"""Everything here that works per example: attention masks and ops, shapes of masks, masked layers.

CASES[name] = (names of inputs, function of those arrays, each with a leading batch axis)
"""

import jax
import numpy as np

from maskjax.masking import (
    attend,
    attention_ops,
    boxes,
    conv,
    conv_norm,
    morphology,
    neighbour,
    pool,
    pyramid,
)
from maskjax.masking.windows import out_valid, window

BATCH = 16
PLACE = window(3, stride=2, padding=1)
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 3, 4)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
TOKEN = RNG.normal(size=3).astype(np.float32)


def blobs(rng, shape, share=0.4):
    """bool[..., H, W] with an empty and a full one among them."""
    mask = rng.uniform(size=shape) < share
    mask[0], mask[1] = False, True
    return mask


def make_inputs():
    """Batched arrays by name; tokens 6, heads 2, width 4; images 8 x 12 x 3."""
    rng = np.random.default_rng(1)
    normal = lambda *shape: rng.normal(size=(BATCH, *shape)).astype(np.float32)  # noqa: E731
    return {
        "scores": normal(2, 6, 6),
        "bias": normal(2, 6, 6),
        "allow": blobs(rng, (BATCH, 1, 6, 6)),
        "query": normal(2, 6, 4),
        "key": normal(2, 6, 4),
        "value": normal(2, 6, 4),
        "keep": rng.uniform(size=(BATCH, 1, 6)).astype(np.float32),
        "tokens": blobs(rng, (BATCH, 6)),
        "owner": rng.integers(0, 3, (BATCH, 6)),
        "softness": rng.uniform(size=BATCH).astype(np.float32),
        "step": rng.integers(0, 40, BATCH),
        "sigma": normal(5, 2),
        "alpha": normal(5, 2),
        "mask": blobs(rng, (BATCH, 8, 12)),
        "cells": blobs(rng, (BATCH, 2, 3)),
        "boxes": rng.uniform(-3, 14, (BATCH, 3, 4)).astype(np.float32),
        "x": normal(8, 12, 3),
        "valid": blobs(rng, (BATCH, 8, 12)),
    }


def conv_gradient(x, valid):
    """By the values, of a loss that is a sum over examples."""
    loss = lambda x: conv.masked_conv(x, valid, KERNEL, BIAS, window=PLACE)[0].sum()  # noqa: E731
    return jax.grad(loss)(x)


MASKS = {
    "valid_keys": (("tokens",), attend.valid_keys),
    "same_owner": (("owner",), attend.same_owner),
    "soft_causal": (("softness",), jax.vmap(lambda s: attend.soft_causal(6, s))),
    "soft_causal_schedule": (
        ("step",),
        lambda step: attend.soft_causal_schedule(step, num_steps=20, kind="linear"),
    ),
    "gaussian_mixture": (
        ("sigma", "alpha"),
        jax.vmap(lambda s, a: attend.gaussian_mixture((2, 3), s, a)),
    ),
    "distance_decay": (("softness",), lambda gamma: attend.distance_decay((2, 3), gamma)),
}
ATTENTION = {
    "unblock_empty": (("allow",), attention_ops.unblock_empty),
    "key_bias": (("keep",), attention_ops.key_bias),
    "weights": (
        ("scores", "bias", "allow"),
        lambda s, b, a: attention_ops.weights(s, factor=b, bias=b, allow=a, gain=b, empty="zero"),
    ),
    "attend": (
        ("query", "key", "value", "allow"),
        lambda q, k, v, a: attention_ops.attend(q, k, v, allow=a),
    ),
    "key_masked, zero_key": (
        ("query", "key", "value", "keep"),
        attention_ops.key_masked_attention,
    ),
    "key_masked, neg_inf": (
        ("query", "key", "value", "keep"),
        lambda *args: attention_ops.key_masked_attention(*args, mode="neg_inf"),
    ),
}
SHAPES = {
    "dilate": (("mask",), lambda m: morphology.dilate(m, (4, 3))),
    "erode": (("mask",), lambda m: morphology.erode(m, 2)),
    "outline": (("mask",), lambda m: morphology.outline(m, side="both")),
    "area": (("mask",), morphology.area),
    "holes": (("mask",), morphology.holes),
    "boxes.from_mask": (("mask",), boxes.from_mask),
    "boxes.to_mask": (("boxes",), lambda b: boxes.to_mask(b, (8, 12))),
    "boxes.snap": (("boxes",), lambda b: boxes.snap(boxes.clip(b, (8, 12)), 4)),
    "pyramid": (("cells",), lambda m: pyramid.pyramid(m, (8, 12), (1, 2, 4))),
    "shrink": (("mask",), lambda m: pyramid.at_size(m, (4, 3), rule="all")),
    "share": (("mask",), lambda m: pyramid.share(m, (2, 3))),
    "nearest": (("mask",), lambda m: pyramid.nearest(m, (5, 7))),
}
LAYERS = {
    "hide": (("x", "valid"), conv.hide),
    "densify": (("x", "valid"), lambda x, v: conv.densify(x, v, TOKEN)),
    "out_valid": (("valid",), lambda v: [out_valid(v, PLACE, r) for r in ("centre", "any", "all")]),
    "masked_conv": (
        ("x", "valid"),
        lambda x, v: conv.masked_conv(x, v, KERNEL, BIAS, window=PLACE),
    ),
    "masked_conv, gradient": (("x", "valid"), conv_gradient),
    "partial_conv": (
        ("x", "valid"),
        lambda x, v: conv.partial_conv(x, v, KERNEL, BIAS, window=PLACE),
    ),
    "masked_max_pool": (("x", "valid"), lambda x, v: pool.masked_max_pool(x, v, window=PLACE)),
    "masked_avg_pool": (("x", "valid"), lambda x, v: pool.masked_avg_pool(x, v, window=PLACE)),
    "masked_global_pool": (("x", "valid"), pool.masked_global_pool),
    "masked_layer_norm": (("x", "valid"), conv_norm.masked_layer_norm),
    "neighbour_fill": (("x", "valid"), lambda x, v: neighbour.neighbour_fill(x, v, num_passes=2)),
    "layer_conv": (
        ("x", "valid"),
        lambda x, v: neighbour.layer_conv(x, v, KERNEL, BIAS, window=PLACE),
    ),
}
CASES = {**MASKS, **ATTENTION, **SHAPES, **LAYERS}
