"""selfie.npz: an independent re-implementation. Indices, features, pooling, logits, loss.

The file's batch norms use their running statistics, so losses and gradients are those of the
model in that mode; training uses the statistics of the batch (test_selfie.py).
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapters import _pretraining as pretraining
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import selfie
from maskjax.losses import cross_entropy
from maskjax.masking import Draws
from maskjax.method import build_method

INPUTS = ("config", "param/*", "input/*", "noise/*")


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/images"])
    method = build_method("mim.selfie", _model(cfg, images.shape[-1]), {"image": images})
    params, extra = jax.eval_shape(method.init, jax.random.key(0), {"image": images})
    rules = selfie.rules(cfg["blocks"], cfg["layers"], _shortcuts(params))
    like = {"params": params, **extra}
    arrays = pretraining.params_of(given)
    tree = from_torch(arrays, rules, like, allow_unused=selfie.UNUSED)
    draws = Draws.replay({"mask": jnp.asarray(given["noise/score"])})

    def objective(params):
        seen = method.predict["choose"](params, _stats(tree), {"image": images}, draws)
        logits = seen["logits"]
        truth = jnp.broadcast_to(jnp.arange(logits.shape[-1]), logits.shape[:2])
        return cross_entropy(logits, truth).mean(), seen

    (loss, seen), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(tree["params"])
    patches = method.predict["encode"].__self__._patches(images)
    gradients = to_torch({"params": gradient, **_stats(tree)}, rules)
    return {
        "mask/target_index": seen["hidden_ids"],
        "mask/context_index": seen["visible_ids"],
        "output/patches": jnp.moveaxis(patches.reshape(-1, *patches.shape[2:]), -1, 1),
        "output/patch_features": seen["features"],
        "output/pooled_u": seen["pooled"],
        "output/query_v": seen["queries"],
        "output/logits": seen["logits"],
        "output/loss": loss,
        **{f"grad/{key}": value for key, value in gradients.items()},
    }


def _stats(tree: Mapping) -> dict:
    return {"batch_stats": tree["batch_stats"]}


def _shortcuts(params: Mapping) -> list[str]:
    return [name for name, block in params["patch_net"].items() if "shortcut" in block]


def _model(cfg: Mapping, channels: int) -> dict[str, Any]:
    widths, blocks = tuple(cfg["planes"]), tuple(cfg["blocks"])
    net = {"stem": cfg["stem"], "widths": widths, "blocks": blocks, "expansion": cfg["expansion"]}
    return {
        **pretraining.pixels(channels),
        "image_size": cfg["img"],
        "patch_size": cfg["patch"],
        "net": net,
        "pool": {"layers": cfg["layers"], "heads": cfg["heads"], "hidden": cfg["ff"]},
        "dropout": 0.0,
        "target_ratio": cfg["target_fraction"],
        "u0": "zeros",
        "positions": "cells",
        "context_positions": False,
    }
