"""crate_mae.npz: official CRATE-MAE. Mask, latent, prediction, loss, gradients, single layers."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import crate
from maskjax.interop.rules import Rule
from maskjax.masking import Draws
from maskjax.method import build_method
from maskjax.nn.crate import CrateBlock, CrateDecoderBlock, Ista, TiedAttention
from maskjax.nn.norm import LayerNorm

INPUTS = ("config", "param/*", "input/*", "noise/*")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Array]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/image"])
    method = build_method("mim.crate_mae", _model(cfg, images.shape[-1]), {"image": images})
    rules = _rules(cfg, images.shape[-1])
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), {"image": images})
    params = from_torch(pretraining.params_of(given), rules, shapes, allow_unused=crate.UNUSED)
    noise = jnp.asarray(given["noise/mask_noise"])
    results = _activations(method, params, images, noise)
    results |= _loss(method, params, images, noise, rules, cfg["grad_keys"])
    if "input/block_probe" in given:
        results |= _layers(cfg, params, jnp.asarray(given["input/block_probe"]))
    return results


def _model(cfg: Mapping, channels: int) -> dict:
    return {
        **pretraining.pixels(channels),
        "image_size": cfg["img_size"],
        "patch_size": cfg["patch_size"],
        "dim": cfg["embed_dim"],
        "depth": cfg["depth"],
        "decoder_depth": cfg["decoder_depth"],
        "heads": cfg["num_heads"],
        "mask_ratio": cfg["mask_ratio"],
        "norm_pix": cfg["norm_pix_loss"],
        "ista_step": cfg["ista_step"],
        "sparsity": cfg["lambd"],
        "block_eps": cfg["prenorm_eps"],
        "norm_eps": cfg["final_norm_eps"],
    }


def _rules(cfg: Mapping, channels: int) -> tuple:
    side = cfg["img_size"] // cfg["patch_size"]
    sizes = (cfg["embed_dim"], cfg["num_heads"], cfg["patch_size"], channels)
    return crate.rules((side, side), *sizes)


def _activations(method, params, images: Array, noise: Array) -> dict[str, Array]:
    def run(params, images, noise):
        batch, draws = {"image": images}, Draws.replay({"mask": noise})
        seen = method.predict["activations"](params, {}, batch, draws)
        return seen | {"prenorm": method.predict["layers"](params, {}, batch, draws)["prenorm"]}

    seen = jax.jit(run)(params, images, noise)
    return {
        "mask/masked": seen["hidden"].astype(jnp.float32),
        "mask/ids_restore": seen["inverse"],
        "output/latent": seen["latent"],
        "output/pred": seen["prediction"],
        "output/features_unmasked_prenorm": seen["prenorm"],
    }


def _loss(method, params, images: Array, noise: Array, rules, grad_keys) -> dict[str, Array]:
    def objective(params, images, noise):
        draws, step = Draws.replay({"mask": noise}), jnp.int32(0)
        terms, _ = method.phases[0].fn(params, {}, {"image": images}, draws, step, None)
        return losses.total(terms)

    loss, gradient = jax.jit(jax.value_and_grad(objective))(params, images, noise)
    gradients = to_torch(gradient, tuple(rule for rule in rules if isinstance(rule, Rule)))
    return {"output/loss": loss, **{f"output/grad/{key}": gradients[key] for key in grad_keys}}


def _layers(cfg: Mapping, params, tokens: Array) -> dict[str, Array]:
    """The first layer of each stack, and its parts (norm and operation), on given tokens."""
    heads, eps = cfg["num_heads"], cfg["prenorm_eps"]
    ista = Ista(cfg["ista_step"], cfg["lambd"])
    first, back = (
        jax.tree.map(lambda x: x[0], params[name]) for name in ("blocks", "decoder_blocks")
    )

    def part(layer, norm: str, module, name: str):
        normed = LayerNorm(eps).apply({"params": layer[norm]}, tokens)
        return module.apply({"params": layer[name]}, normed)

    mssa, seen = part(first, "norm1", TiedAttention(heads), "attn")
    block = CrateBlock(heads, ista.step, ista.sparsity, eps).apply({"params": first}, tokens)[0]
    decoder, inner = CrateDecoderBlock(heads, eps).apply({"params": back}, tokens)
    return {
        "output/probe_enc_mssa": mssa,
        "output/probe_enc_ista": part(first, "norm2", ista, "ista"),
        "output/probe_enc_block": block,
        "output/probe_enc_attention": seen["attention"],
        "output/probe_dec_linear": inner["linear"],
        "output/probe_dec_mssa": part(back, "norm2", TiedAttention(heads), "attn")[0],
        "output/probe_dec_block": decoder,
    }
