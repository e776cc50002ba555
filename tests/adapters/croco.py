"""croco.npz and croco_v2.npz: official CroCo with sin-cos and with rotary positions."""

import json
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import croco
from maskjax.interop.rules import Rule
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.geometry import Geometry
from maskjax.nn.rotary import grid_positions, rotary_table, rotate

INPUTS = ("config", "param/*", "input/*", "noise/*")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Array]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    views = {
        "image": pretraining.channels_last(given["input/image1"]),
        "other": pretraining.channels_last(given["input/image2"]),
    }
    noise = jnp.asarray(given["noise/mask_noise"])
    model = _model(cfg, views["image"].shape[-1])
    method = build_method("views.croco", model, views)
    geometry = Geometry(**method.describe["geometry"])
    rules = croco.rules(geometry, cfg["dec_embed_dim"])
    like, _ = jax.eval_shape(method.init, jax.random.key(0), views)
    params = from_torch(pretraining.params_of(given), rules, like)
    loss, gradient = _losses(model, params, views, noise)
    gradients = to_torch(gradient, tuple(rule for rule in rules if isinstance(rule, Rule)))
    grid = grid_positions(geometry.grid)
    results = {
        **_activations(method, params, views, noise),
        **loss,
        **{f"output/grad/{key}": gradients[key] for key in cfg["grad_keys"]},
        "output/pos": np.broadcast_to(grid, (len(noise), *grid.shape)),
    }
    if "input/rope_tokens" in given:
        tokens = jnp.asarray(given["input/rope_tokens"])
        table = rotary_table(grid, tokens.shape[-1], model["rotary"])
        results["output/rope_tokens_rotated"] = rotate(tokens, jnp.asarray(table))
    return results


def _model(cfg: Mapping, channels: int) -> dict:
    sizes = {
        side: pretraining.size(*(cfg[f"{name}_{key}"] for key in keys), cfg["mlp_ratio"])
        for side, name in (("encoder", "enc"), ("decoder", "dec"))
        for keys in (("embed_dim", "depth", "num_heads"),)
    }
    rotary = re.fullmatch(r"RoPE(\d+)", cfg["pos_embed"])
    return {
        **pretraining.pixels(channels),
        **sizes,
        "image_size": cfg["img_size"],
        "patch_size": cfg["patch_size"],
        "mask_ratio": cfg["mask_ratio"],
        "rotary": int(rotary[1]) if rotary else 0,
        "norm_pix": cfg["norm_pix_loss"],
        "norm_eps": cfg["layernorm_eps"],
    }


def _activations(method, params, views: Mapping, noise: Array) -> dict[str, Array]:
    def run(params, views, noise):
        draws = Draws.replay({"mask": noise})
        seen = method.predict["activations"](params, {}, views, draws)
        target = method.predict["reconstruct"](params, {}, views, draws)["target"]
        errors = losses.squared_error(seen["prediction"], target)
        # Downstream: nothing is hidden, and here both inputs are the second view.
        same = {"image": views["other"], "other": views["other"]}
        return seen, errors.mean(), method.predict["decode"](params, {}, same, draws)["tokens"]

    seen, error, decoded = jax.jit(run)(params, views, noise)
    return {
        "mask/masked": seen["hidden"].astype(jnp.int32),
        "output/enc_feat1_visible": seen["visible"],
        "output/enc_feat2": seen["second"],
        "output/decoder_feat": seen["decoder"],
        "output/pred": seen["prediction"],
        "output/loss_all_patches": error,
        "output/decoder_feat_downstream_img2_img2": decoded,
    }


def _losses(model: dict, params, views: Mapping, noise: Array) -> tuple[dict[str, Array], dict]:
    """Both losses, and the gradient of the one that is trained."""

    def objective(norm_pix: bool):
        method = build_method("views.croco", {**model, "norm_pix": norm_pix}, views)

        def loss(params, views, noise):
            draws, step = Draws.replay({"mask": noise}), jnp.int32(0)
            terms, _ = method.phases[0].fn(params, {}, views, draws, step, None)
            return losses.total(terms)

        return loss

    trained = jax.jit(jax.value_and_grad(objective(model["norm_pix"])))
    loss, gradient = trained(params, views, noise)
    raw = jax.jit(objective(False))(params, views, noise)
    return {"output/loss": loss, "output/loss_raw_pixels": raw}, gradient
