"""multimae.npz: official MultiMAE."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses, masking
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import multimae
from maskjax.interop.rules import Rule
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.targets.depth import standardize_depth

INPUTS = ("config", "param/*", "input/*", "noise/*")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Any]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    batch = {
        "rgb": pretraining.channels_last(given["input/rgb"]),
        "depth": pretraining.channels_last(given["input/depth_raw"]),
        "semseg": jnp.asarray(given["input/semseg"]),
    }
    batch = {name: batch[name] for name in cfg["domains"]}
    method = build_method("views.multimae", _model(cfg), batch)
    rules = _rules(cfg)
    like, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    params = from_torch(pretraining.params_of(given), rules, like)
    noise = {
        "shares": jnp.asarray(given["noise/dirichlet_sample"]),
        "keep": jnp.concatenate([given[f"noise/{name}"] for name in cfg["domains"]], 1),
        "shuffle": jnp.asarray(given["noise/shuffle"]),
    }
    terms, gradient = _loss(method, params, batch, noise)
    gradients = to_torch(gradient, tuple(rule for rule in rules if isinstance(rule, Rule)))
    single = {task: losses.total({task: term}) for task, term in terms.items()}
    return {
        **_activations(cfg, method, params, batch, noise),
        **{f"output/loss/{task}": loss for task, loss in single.items()},
        "output/loss": losses.total(terms),
        **{f"output/grad/{key}": gradients[key] for key in cfg["grad_keys"]},
    }


def _model(cfg: Mapping) -> dict:
    heads = (cfg["dim_tokens"], cfg["depth"], cfg["num_heads"], cfg["mlp_ratio"])
    decoder = (cfg["decoder_dim"], cfg["decoder_depth"], cfg["decoder_num_heads"], cfg["mlp_ratio"])
    return {
        **pretraining.pixels(3),
        "image_size": cfg["img_size"],
        "patch_size": cfg["patch_size"],
        "modalities": tuple(cfg["domains"]),
        "semseg_classes": cfg["num_classes"],
        "semseg_stride": cfg["semseg_stride"],
        "class_dim": cfg["dim_class_emb"],
        "num_visible": cfg["num_encoded_tokens"],
        "alpha": cfg["alphas"],
        "norm_rgb": cfg["extra_norm_pix_loss"],
        "num_global": cfg["num_global_tokens"],
        "encoder": pretraining.size(*heads),
        "decoder": pretraining.size(*decoder),
        "norm_eps": cfg["layernorm_eps"],
    }


def _rules(cfg: Mapping) -> tuple:
    side = cfg["patch_size"]
    coarse = side // cfg["semseg_stride"]
    inputs = {
        "rgb": ("rgb", side, 3, False),
        "depth": ("depth", side, 1, False),
        "semseg": ("semseg", coarse, cfg["dim_class_emb"], True),
    }
    tasks = {
        "rgb": ("rgb", side, 3),
        "depth": ("depth", side, 1),
        "semseg": ("semseg", coarse, cfg["num_classes"]),
    }
    wanted = [tasks[name] for name in cfg["domains"]]
    wanted += [("norm_rgb", side, 3)] if cfg["extra_norm_pix_loss"] else []
    grid = (cfg["img_size"] // side,) * 2
    dims = (cfg["dim_tokens"], cfg["decoder_dim"])
    return multimae.rules(grid, dims, [inputs[name] for name in cfg["domains"]], wanted)


def _activations(cfg: Mapping, method, params, batch: Mapping, noise: Mapping) -> dict[str, Array]:
    def run(params, batch, noise):
        seen = method.predict["activations"](params, {}, batch, Draws.replay(noise))
        rgb = method.predict["reconstruct"](params, {}, batch, Draws.replay(noise))
        return seen, rgb["target"]

    seen, target = jax.jit(run)(params, batch, noise)
    side, count = cfg["patch_size"], cfg["num_global_tokens"]
    grid = (cfg["img_size"] // side,) * 2
    results = {
        "mask/ids_keep": seen["visible_ids"],
        "mask/ids_restore": seen["inverse"],
        # The global tokens are parameters, at the end of the encoder's input.
        "output/encoder_input_tokens": jnp.concatenate(
            [
                seen["inputs"],
                jnp.broadcast_to(
                    params["encoder"]["global_tokens"],
                    (len(target), count, seen["inputs"].shape[-1]),
                ),
            ],
            1,
        ),
        "output/encoder_tokens": seen["latent"],
        "output/depth_standardized": jnp.moveaxis(standardize_depth(batch["depth"]), -1, 1),
    }
    for name in cfg["domains"]:
        results[f"mask/{name}"] = seen[f"hidden/{name}"].astype(jnp.int32)
    if cfg["extra_norm_pix_loss"]:
        results["mask/norm_rgb"] = results["mask/rgb"]
    for key in [key for key in seen if key.startswith("pred/")]:
        own = side // cfg["semseg_stride"] if key == "pred/semseg" else side
        image = masking.unpatchify(seen[key], grid, (own, own))
        results[f"output/{key}"] = jnp.moveaxis(image, -1, 1)
    # The rgb loss where the first example hides no colours.
    patches = method.predict["inputs"](params, {}, batch, Draws.replay(noise))
    errors = losses.squared_error(seen["pred/rgb"], patches["rgb"])
    hidden = seen["hidden/rgb"].at[0].set(False)
    term = losses.hidden_mean(errors, hidden)
    return results | {"output/loss_rgb_sample0_fully_visible": losses.total({"rgb": term})}


def _loss(method, params, batch: Mapping, noise: Mapping) -> tuple[dict, dict]:
    """Terms of the training path, and the gradient of their sum."""

    def objective(params, batch, noise):
        draws, step = Draws.replay(noise), jnp.int32(0)
        terms, _ = method.phases[0].fn(params, {}, batch, draws, step, None)
        return losses.total(terms), terms

    gradient, terms = jax.jit(jax.grad(objective, has_aux=True))(params, batch, noise)
    return terms, gradient
