"""mae_hf.npz: the same model in Hugging Face's ViTMAE, under the names of transformers 5."""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from adapters import _pretraining as pretraining
from adapters._pretraining import Inputs
from maskjax.errors import UserError
from maskjax.interop.layouts import LAYOUTS
from maskjax.nn.geometry import Geometry

INPUTS = ("config", "param/*", "input/*", "noise/*")


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))["hf_config"]
    inputs = _inputs(given, cfg)
    seen = pretraining.predict(inputs, "activations")
    return {
        "output/loss_raw": pretraining.loss(inputs, norm_pix=False),
        "output/loss_norm": pretraining.loss(inputs, norm_pix=True),
        "output/logits": seen["prediction"],
        "output/last_hidden_state": seen["latent"],
        "mask/mask": seen["hidden"].astype(jnp.float32),
        "mask/ids_restore": seen["inverse"],
        "names/v5_to_hub_json": _names(pretraining.params_of(given), inputs.geometry),
    }


def _model(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """`ViTMAEConfig` as entries of `config.model`."""
    if cfg["hidden_act"] != "gelu":
        raise UserError(f"hidden_act = {cfg['hidden_act']!r}: only gelu is supported")
    return {
        **pretraining.pixels(cfg["num_channels"]),
        "image_size": cfg["image_size"],
        "patch_size": cfg["patch_size"],
        "encoder": pretraining.size(
            cfg["hidden_size"],
            cfg["num_hidden_layers"],
            cfg["num_attention_heads"],
            cfg["intermediate_size"] / cfg["hidden_size"],
        ),
        "decoder": pretraining.size(
            cfg["decoder_hidden_size"],
            cfg["decoder_num_hidden_layers"],
            cfg["decoder_num_attention_heads"],
            cfg["decoder_intermediate_size"] / cfg["decoder_hidden_size"],
        ),
        "mask_ratio": cfg["mask_ratio"],
        "norm_eps": cfg["layer_norm_eps"],
    }


def _inputs(given: Mapping[str, np.ndarray], cfg: Mapping[str, Any]) -> Inputs:
    model, images = _model(cfg), pretraining.channels_last(given["input/pixel_values"])
    # Without qkv_bias the file has no such keys, and ours stay at zero.
    absent = () if cfg.get("qkv_bias", True) else tuple(f"*.{n}_proj.bias" for n in "qkv")
    params = pretraining.read_params(given, model, images, "hf5", allow_missing=absent)
    return Inputs(model, params, images, jnp.asarray(given["noise/uniform"]))


def _names(arrays: Mapping[str, np.ndarray], geometry: Geometry) -> str:
    """{name in memory: name on the hub}, of the tensors the file has."""
    names = {}
    for memory, hub in zip(LAYOUTS["hf5"](geometry), LAYOUTS["hf"](geometry), strict=True):
        for i in range(max(geometry.depth, geometry.decoder_depth)):
            key = memory.theirs.replace("{i}", str(i))
            if key in arrays:
                names[key] = hub.theirs.replace("{i}", str(i))
    return json.dumps(names)
