"""mr_mae.npz: official ConvMAE, the encoder of MR-MCMAE, by its pixel loss; none of mimicking."""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import convmae
from maskjax.interop.rules import Rule
from maskjax.masking import Draws
from maskjax.method import build_method

INPUTS = ("config", "param/*", "input/*", "noise/*")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Any]:
    """Masks of all stages, latent, prediction, both losses, gradients."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/images"])
    noise = jnp.asarray(given["noise/mask"])
    model = _model(cfg, images.shape[-1])
    method = build_method("distill.mr_mae", model, {"image": images})
    grid = (cfg["img_size"][0] // math.prod(cfg["patch_size"]),) * 2
    rules = convmae.rules(cfg["depth"], grid, cfg["embed_dim"][2], cfg["decoder_embed_dim"])
    like, _ = jax.eval_shape(method.init, jax.random.key(0), {"image": images})
    params = from_torch(pretraining.params_of(given), rules, like)
    loss, gradient = jax.jit(jax.value_and_grad(_objective(model, images)))(params, images, noise)
    raw = jax.jit(_objective({**model, "norm_pix": False}, images))(params, images, noise)
    gradients = to_torch(gradient, tuple(rule for rule in rules if isinstance(rule, Rule)))
    wanted = ("patch_embed1.proj.weight", "mask_token")
    return {
        **_activations(method, params, images, noise),
        "output/loss_pixel": loss,
        "output/loss_pixel_raw": raw,
        **{f"output/grad/{key}": gradients[key] for key in wanted},
    }


def _model(cfg: Mapping[str, Any], channels: int) -> dict[str, Any]:
    ratios = cfg["mlp_ratio"]
    decoder = [cfg[f"decoder_{name}"] for name in ("embed_dim", "depth", "num_heads")]
    return {
        **pretraining.pixels(channels),
        "image_size": cfg["img_size"][0],
        "patch_size": math.prod(cfg["patch_size"]),
        "backbone": "conv",
        "conv": {
            "dims": tuple(cfg["embed_dim"]),
            "depths": tuple(cfg["depth"]),
            "patches": tuple(cfg["patch_size"]),
            "mlp_ratios": tuple(ratios),
            "heads": cfg["num_heads"],
        },
        "decoder": pretraining.size(*decoder, ratios[0]),
        "mask_ratio": cfg["mask_ratio"],
        "norm_pix": cfg["norm_pix_loss"],
        "mimic_weight": 0,
    }


def _objective(model: Mapping[str, Any], images: Array):
    method = build_method("distill.mr_mae", model, {"image": images})

    def objective(params, images: Array, noise: Array) -> Array:
        draws, step = Draws.replay({"mask": noise}), jnp.int32(0)
        terms, _ = method.phases[0].fn(params, {}, {"image": images}, draws, step, None)
        return losses.total(terms)

    return objective


def _activations(method, params, images: Array, noise: Array) -> dict[str, Array]:
    def run(params, images, noise):
        draws = Draws.replay({"mask": noise})
        return method.predict["activations"](params, {}, {"image": images}, draws)

    seen = jax.jit(run)(params, images, noise)
    stages = {f"mask/stage{i}": seen[f"hidden{i}"].astype(jnp.float32)[:, None] for i in (1, 2)}
    return {
        **stages,
        "mask/mask": seen["hidden"].astype(jnp.float32),
        "mask/ids_restore": seen["inverse"],
        "mask/ids_keep": seen["visible_ids"],
        "output/latent_visible": seen["latent"],
        "output/pred": seen["prediction"],
    }
