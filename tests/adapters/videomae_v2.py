"""videomae_v2.npz: official VideoMAE V2."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.data.stats import IMAGENET
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import videomae
from maskjax.masking import Draws
from maskjax.masking.video import running_cell
from maskjax.method import build_method
from maskjax.nn.geometry import Geometry
from maskjax.nn.position import sinusoid_1d

# The two masks of the clips were drawn by the reference; the file has no noise for them.
INPUTS = ("config", "param/*", "input/*", "mask/encoder_masked", "mask/decoder_dropped")
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Array]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    batch = {"video": jnp.moveaxis(jnp.asarray(given["input/video_normalized"]), 1, -1)}
    method = build_method("views.videomae_v2", _model(cfg), batch)
    geometry = Geometry(**method.describe["geometry"])
    rules = videomae.rules(geometry)
    like, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    params = from_torch(pretraining.params_of(given), rules, like)
    maps = _maps(cfg, geometry)
    noise = _noise(given, geometry, maps)
    # VideoMAE's decoder; the file shows its prediction for the first clip.
    whole = build_method("views.videomae_v2", {**_model(cfg), "decoder_mask_ratio": 0.0}, batch)
    loss, gradient = _loss(method, params, batch, noise)
    gradients = to_torch(gradient, rules)
    seen = _seen(method, params, batch, noise)
    return {
        "mask/running_cell_all_maps": maps.astype(np.float32),
        "output/encoder_visible": seen["visible"],
        "output/pred_dual": seen["prediction"],
        "output/labels_dual": seen["target"],
        "output/loss_mask_dual": seen["weight"].astype(jnp.int32),
        "output/loss": loss,
        "output/pred_encoder_mask_only": _seen(whole, params, batch, noise)["prediction"][:1],
        "output/loss_encoder_mask_only": _loss(whole, params, batch, noise)[0],
        "output/pos_embed_encoder": sinusoid_1d(geometry.num_patches, geometry.dim)[None],
        "output/pos_embed_decoder": sinusoid_1d(geometry.num_patches, cfg["decoder_embed_dim"])[
            None
        ],
        **{f"output/grad/{key}": gradients[key] for key in cfg["grad_keys"]},
    }


def _model(cfg: Mapping) -> dict:
    sizes = {
        side: pretraining.size(*(cfg[f"{side}_{key}"] for key in keys), cfg["mlp_ratio"])
        for side in ("encoder", "decoder")
        for keys in (("embed_dim", "depth", "num_heads"),)
    }
    mean, std = IMAGENET
    return {
        **sizes,
        "mean": mean,
        "std": std,
        "image_size": cfg["img_size"],
        "patch_size": cfg["patch_size"],
        "num_frames": cfg["num_frames"],
        "tubelet": cfg["tubelet_size"],
        "mask_ratio": cfg["mask_ratio"],
        "decoder_mask_ratio": cfg["decoder_mask_ratio"],
        "norm_pix": cfg["normalize_target"],
        "norm_eps": cfg["layernorm_eps"],
    }


def _maps(cfg: Mapping, geometry: Geometry) -> np.ndarray:
    """bool[4, T', H' W']: what the decoder drops, for each start."""
    grid = (geometry.frames // geometry.tubelet, *geometry.grid)
    num = geometry.num_patches
    predicted = num - int(4 * cfg["decoder_mask_ratio"]) * (num // 4)
    one = lambda start: running_cell(start, grid, num_visible=predicted).hidden()  # noqa: E731
    return np.asarray(jax.vmap(one)(jnp.arange(4))).reshape(4, grid[0], -1)


def _noise(given: Given, geometry: Geometry, maps: np.ndarray) -> dict[str, Array]:
    """Numbers from which the method draws the masks of the file."""
    places = geometry.grid[0] * geometry.grid[1]
    hidden, dropped = (given[f"mask/{name}"] > 0 for name in ("encoder_masked", "decoder_dropped"))
    alike = (dropped[:, None] == maps.reshape(1, 4, -1)).all(-1)
    start = alike.argmax(1) / 4
    return {
        "mask": jnp.asarray(hidden[:, :places], jnp.float32),
        "cell": jnp.asarray(start, jnp.float32),
    }


def _seen(method, params, batch: Mapping, noise: Mapping) -> dict[str, Array]:
    def run(params, batch, noise):
        return method.predict["activations"](params, {}, batch, Draws.replay(noise))

    return jax.jit(run)(params, batch, noise)


def _loss(method, params, batch: Mapping, noise: Mapping) -> tuple[Array, dict]:
    """Loss of the training path and its gradient."""

    def objective(params, batch, noise):
        draws, step = Draws.replay(noise), jnp.int32(0)
        terms, _ = method.phases[0].fn(params, {}, batch, draws, step, None)
        return losses.total(terms)

    return jax.jit(jax.value_and_grad(objective))(params, batch, noise)
