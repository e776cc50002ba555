"""i2p_mae_cls.npz: official I2P-MAE's classifier of ModelNet40, with attention inside a radius."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax.interop.convert import from_torch
from maskjax.interop.layouts import i2p_mae as layout
from maskjax.masking import Draws
from maskjax.method import build_method

INPUTS = ("config", "param/*", "input/*")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Array]:
    """Tokens, logits and loss by running statistics."""
    cfg = json.loads(str(given["config"]))
    points, label = (jnp.asarray(given[f"input/{name}"]) for name in ("points", "labels"))
    batch = {"points": points, "label": label}
    method = build_method("supervised.classify_points", _model(cfg, given), batch)
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    like = {"params": shapes[0], "batch_stats": shapes[1]["batch_stats"]}
    rules = layout.rules_classifier(len(cfg["num_groups"]))
    tree = from_torch(pretraining.params_of(given), rules, like, allow_unused=layout.UNUSED)

    @jax.jit
    def run(params, extra, batch):
        draws = Draws.replay({})
        found = {name: fn(params, extra, batch, draws) for name, fn in method.predict.items()}
        logits = found["classify"]["logits"]
        errors = method.phases[0].fn.__self__.errors(logits, batch["label"])
        return found["encode"]["tokens"], logits, errors.mean()

    tokens, logits, loss = run(tree["params"], {"batch_stats": tree["batch_stats"]}, batch)
    return {
        "output/encoder_tokens": tokens,
        "output/logits": logits,
        "output/smooth_loss": loss,
    }


def _model(cfg: Mapping, given: Given) -> dict:
    sizes = {key: tuple(cfg[f"encoder_{key}"]) for key in ("dims", "depths")}
    return {
        "num_points": cfg["npoints"],
        "num_groups": tuple(cfg["num_groups"]),
        "group_sizes": tuple(cfg["group_sizes"]),
        "radius": tuple(cfg["local_radius"]),
        "encoder": {**sizes, "heads": cfg["num_heads"]},
        "hidden": len(given["param/cls_head_finetune.0.bias"]),
        "num_classes": len(given["param/cls_head_finetune.8.bias"]),
        "smoothing": cfg["smooth"],
    }
