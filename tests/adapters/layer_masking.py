"""layer_masking.npz: a small bottleneck ResNet on a visible region, and its layers one by one."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax.interop.convert import from_torch
from maskjax.interop.layouts import resnet
from maskjax.masking.conv import hide
from maskjax.masking.neighbour import layer_conv, neighbour_fill
from maskjax.masking.pool import masked_avg_pool
from maskjax.masking.windows import window
from maskjax.nn.masked_resnet import MaskedResNet

INPUTS = (
    "config",
    "param/*",
    "input/*",
    "mask/visible",
    "pad/in",
    "pad/mask",
    "conv/weight",
    "conv/bias",
)
Given = Mapping[str, np.ndarray]
Config = Mapping[str, Any]
Outputs = dict[str, Any]


def outputs(given: Given) -> Outputs:
    """Every result of the file."""
    cfg = json.loads(str(given["config"]))
    return {**_networks(given, cfg), **_filled(given, cfg), **_layers(given)}


def _networks(given: Given, cfg: Config) -> Outputs:
    images = pretraining.channels_last(given["input/images"])
    valid = jnp.asarray(given["mask/visible"][:, 0] > 0)
    variables = _variables(given, cfg, images)
    results = {}
    for style in cfg["modes"]:
        _, seen = _run(cfg, style, variables, images, valid)
        results |= {f"output/{style}/{k}": v for k, v in _named(seen).items()}
    rubbish = jnp.where(valid[..., None], images, 1e3)
    everything = jnp.ones_like(valid)
    cases = {
        "unmasked": (images, None),
        "all_visible": (images, everything),
        "zero_input": (hide(images, valid), None),
        "garbage_hidden": (rubbish, valid),
    }
    for name, case in cases.items():
        results[f"output/{name}/logits"] = _run(cfg, "neighbour", variables, *case)[0]
    return results


def _model(cfg: Config, style: str) -> MaskedResNet:
    sizes = (cfg["planes"], cfg["blocks"], cfg["num_classes"], cfg["stem"], cfg["expansion"])
    return MaskedResNet(*sizes, style=style, eps=cfg["bn_eps"])


def _variables(given: Given, cfg: Config, images: Array) -> dict[str, Any]:
    like = jax.eval_shape(_model(cfg, "neighbour").init, jax.random.key(0), images)
    arrays, rules = pretraining.params_of(given), resnet.rules(cfg["blocks"])
    return from_torch(arrays, rules, like, allow_unused=resnet.UNUSED)


def _run(cfg: Config, style: str, variables: Any, images: Array, valid: Array | None) -> Any:
    logits, seen = jax.jit(_model(cfg, style).apply)(variables, images, valid)
    return logits, {**seen, "logits": (logits, None)}


def _named(seen: Mapping[str, Any]) -> Outputs:
    """Their names, channels first."""
    names = {"stem_conv": "conv1", "stem_norm": "bn1", "stem": "relu", "pool": "maxpool"}
    results = {}
    for key, (x, valid) in seen.items():
        name = names.get(key, key.replace("stage", "layer"))
        if name == "features":
            name, x = "avgpool", x[:, None, None]
        results[name] = x if x.ndim == 2 else jnp.moveaxis(x, -1, 1)
        if valid is not None:
            results[f"{name}_mask"] = _as_mask(valid)
    return results


def _as_mask(valid: Array) -> Array:
    return valid[:, None].astype(jnp.float32)


def _filled(given: Given, cfg: Config) -> Outputs:
    """The filling after as many passes as the names of the results say."""
    x, valid = _example(given)
    names = getattr(given, "withheld", ("pad/out_iters1",))
    found = (re.fullmatch(r"pad/out_iters(\d+)", name) for name in names)
    results = {}
    for match in filter(None, found):
        y, _ = neighbour_fill(x, valid, num_passes=int(match[1]), eps=cfg["pad_eps"])
        results[match[0]] = jnp.moveaxis(y, -1, 1)
    return results


def _layers(given: Given) -> Outputs:
    """A 3 x 3 convolution of stride 2 and a 2 x 2 average pool, as the sheet has them."""
    x, valid = _example(given)
    kernel, bias = jnp.moveaxis(given["conv/weight"], (0, 1), (3, 2)), given["conv/bias"]
    place = window(kernel.shape[:2], stride=2, padding=1)
    full, full_valid = layer_conv(x, valid, kernel, bias, window=place)
    partial, partial_valid = layer_conv(x, valid, kernel, window=place, fill="partial")
    pooled, pooled_valid = masked_avg_pool(x, valid, window=window(2, stride=2), hidden="zero")
    return {
        "conv/out": jnp.moveaxis(full, -1, 1),
        "conv/out_mask": _as_mask(full_valid),
        "conv/out_partial_nobias": jnp.moveaxis(partial, -1, 1),
        "conv/out_partial_mask": _as_mask(partial_valid),
        "avgpool/out": jnp.moveaxis(pooled, -1, 1),
        "avgpool/out_mask": _as_mask(pooled_valid),
    }


def _example(given: Given) -> tuple[Array, Array]:
    return pretraining.channels_last(given["pad/in"]), jnp.asarray(given["pad/mask"][:, 0] > 0)
