"""cae.npz: official CAE without drop-path. Latents, logits, losses, gradients."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import cae
from maskjax.interop.rules import Rule
from maskjax.masking import Draws
from maskjax.method import Method, Tree, build_method

# The sheet gives the mask and the ids of the tokens.
INPUTS = ("config", "param/*", "input/*", "mask/masked")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Array]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    batch = {
        "image": pretraining.channels_last(given["input/image"]),
        "token_ids": jnp.asarray(given["input/token_ids"]),
    }
    method = build_method("mim.cae", _model(cfg, batch["image"].shape[-1]), batch)
    rules = cae.rules(pretraining.geometry_of(method), cfg["decoder_embed_dim"])
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    arrays = pretraining.params_of(given)
    params = from_torch(arrays, rules, shapes, allow_unused=cae.UNUSED)
    # As noise the mask itself keeps both parts in raster order, as the file has them.
    masked = jnp.asarray(given["mask/masked"], jnp.float32)
    loss, terms, gradient = _loss(method, params, batch, masked)
    trained = tuple(rule for rule in rules if isinstance(rule, Rule))
    gradients = to_torch(gradient, trained)
    return {
        **_activations(method, params, batch, masked),
        "output/loss_main": terms["tokens"],
        "output/loss_align_unweighted": terms["alignment"],
        "output/loss": loss,
        **{f"output/grad/{key}": value for key, value in gradients.items()},
    }


def _model(cfg: Mapping[str, Any], channels: int) -> dict[str, Any]:
    num_tokens = (cfg["img_size"] // cfg["patch_size"]) ** 2
    heads, ratio = cfg["num_heads"], cfg["mlp_ratio"]
    decoder_heads = cfg.get("decoder_num_heads", heads)
    decoder = (cfg["decoder_embed_dim"], cfg["decoder_depth"], decoder_heads, ratio)
    return {
        **pretraining.pixels(channels),
        "image_size": cfg["img_size"],
        "patch_size": cfg["patch_size"],
        "encoder": pretraining.size(cfg["embed_dim"], cfg["depth"], heads, ratio),
        "decoder": pretraining.size(*decoder),
        "regressor_depth": cfg["regressor_depth"],
        # The share that is rounded to this count.
        "mask_ratio": (cfg["num_mask"] - 0.5) / num_tokens,
        "mask": {"law": "random"},
        "qkv_bias": cfg["qkv_bias"],
        "layer_scale": cfg["init_values"],
        "drop_path": 0.0,
        "align_weight": cfg["align_loss_weight"],
        "norm_eps": cfg["layernorm_eps"],
        "tokenizer": {"field": "token_ids", "vocab": cfg["decoder_num_classes"]},
    }


def _activations(method: Method, params: Tree, batch: Mapping, masked: Array) -> dict[str, Array]:
    def run(params, batch, masked):
        draws = Draws.replay({"mask": masked})
        return method.predict["activations"](params, {"tokenizer": {}}, batch, draws)

    seen = jax.jit(run)(params, batch, masked)
    return {
        "output/encoder_visible": seen["latent"],
        "output/latent_predict": seen["predicted"],
        "output/latent_target": seen["target"],
        "output/logits": seen["logits"],
    }


def _loss(method: Method, params: Tree, batch: Mapping, masked: Array) -> tuple:
    """Total loss, {name: value of the term, unweighted} and gradient, by the training path."""

    def objective(params, batch, masked):
        draws, extra = Draws.replay({"mask": masked}), {"tokenizer": {}}
        terms, _ = method.phases[0].fn(params, extra, batch, draws, jnp.int32(0), None)
        plain = {name: term._replace(coefficient=1.0) for name, term in terms.items()}
        return losses.total(terms), {n: losses.total({n: term}) for n, term in plain.items()}

    run = jax.jit(jax.value_and_grad(objective, has_aux=True))
    (loss, terms), gradient = run(params, batch, masked)
    return loss, terms, gradient
