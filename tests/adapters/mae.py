"""mae.npz: official MAE. Sheet: mask, activations, losses, gradients, classifiers, optimizers."""

import dataclasses
import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from adapters import _pretraining as pretraining
from adapters._pretraining import Inputs
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import LAYOUTS
from maskjax.interop.rules import Rule
from maskjax.interop.shapes import param_tree
from maskjax.masking import patchify
from maskjax.nn.geometry import Geometry
from maskjax.nn.norm import batch_moments, batch_norm, update_running_moments
from maskjax.nn.position import resize_table, sincos_2d
from maskjax.nn.vit import Classifier, Size
from maskjax.options import pair
from maskjax.train.lars import lars
from maskjax.train.optim import param_rules
from maskjax.train.schedules import warmup_cosine

INPUTS = (
    "config",
    "param/*",
    "input/*",
    "noise/*",
    "lars/w0",
    "lars/b0",
    "lars/g*",
    "sched/epoch",
    "pos/interp_in",
)
Given = Mapping[str, np.ndarray]
Config = Mapping[str, Any]
Outputs = dict[str, Any]


def outputs(given: Given) -> Outputs:
    """Every result of the file; it may lack whole sections."""
    cfg = json.loads(str(given["config"]))
    inputs = _inputs(given, cfg)
    results = {**_activations(inputs), **_losses(inputs), **_sincos(given)}
    sections = {
        "finetune": (_classifiers, _layer_decay),
        "lars": (_lars,),
        "sched": (_schedule,),
        "interp": (_resized_table,),
    }
    for fn in (fn for section, fns in sections.items() if section in cfg for fn in fns):
        results |= fn(given, cfg, inputs)
    return results


def _inputs(given: Given, cfg: Config) -> Inputs:
    model, images = pretraining.model_of(cfg), pretraining.channels_last(given["input/images"])
    classifier = ("head.*", "fc_norm.*")
    params = pretraining.read_params(given, model, images, "mae", allow_unused=classifier)
    return Inputs(model, params, images, jnp.asarray(given["noise/uniform"]))


def _activations(inputs: Inputs) -> Outputs:
    seen = pretraining.predict(inputs, "activations")
    whole = pretraining.predict(inputs, "activations", ("latent", "hidden"), mask_ratio=0.0)
    stacks = {"enc": seen["encoder_blocks"], "dec": seen["decoder_blocks"]}
    blocks = {
        f"output/{side}_block{i}": layers[:, i]
        for side, layers in stacks.items()
        for i in range(layers.shape[1])
    }
    return {
        "output/patch_embed": seen["patch_embed"],
        "output/enc_tokens_in": seen["encoder_input"],
        "output/latent": seen["latent"],
        "output/dec_tokens_in": seen["decoder_input"],
        "output/pred": seen["prediction"],
        **blocks,
        "mask/mask": seen["hidden"].astype(jnp.float32),
        "mask/ids_restore": seen["inverse"],
        "mask/ids_keep": seen["visible_ids"],
        "output/latent_mask0": whole["latent"],
        "mask/mask0": whole["hidden"].astype(jnp.float32),
    }


def _losses(inputs: Inputs) -> Outputs:
    # Fixed tables, which the layout also holds, have no gradient.
    rules = tuple(rule for rule in LAYOUTS["mae"](inputs.geometry) if isinstance(rule, Rule))
    results = {}
    for mode in ("raw", "norm"):
        norm_pix = mode == "norm"
        loss, gradient = pretraining.loss_and_gradient(inputs, norm_pix=norm_pix)
        seen = pretraining.predict(inputs, "reconstruct", ("target",), norm_pix=norm_pix)
        results |= {f"output/loss_{mode}": loss, f"output/target_patches_{mode}": seen["target"]}
        results |= {f"grad_{mode}/{k}": g for k, g in to_torch(gradient, rules).items()}
    return results


def _classifiers(given: Given, cfg: Config, inputs: Inputs) -> Outputs:
    """Both poolings, and the linear probe's BatchNorm over the features of mean pooling."""
    results, features = {}, {}
    for pool in ("gap", "cls"):
        features[pool], logits = _classify(given, cfg, inputs, pool)
        results[f"output/vit_{pool}_features"] = features[pool]
        results[f"output/vit_{pool}_logits"] = logits
    gap = features["gap"]
    moments = batch_moments(gap)
    start = (jnp.zeros_like(moments[0]), jnp.ones_like(moments[1]))
    running = update_running_moments(start, moments, len(gap))
    return results | {
        "output/linprobe_bn_train": batch_norm(gap, *moments),
        "output/linprobe_bn_running_mean": running[0],
        "output/linprobe_bn_running_var": running[1],
        "output/linprobe_bn_eval": batch_norm(gap, *running),
    }


def _classifier_geometry(cfg: Config, inputs: Inputs, pool: str) -> Geometry:
    """Fine-tuning trains the position table."""
    classes, encoder = cfg["finetune"]["num_classes"], inputs.geometry.encoder_only()
    return dataclasses.replace(encoder, pool=pool, num_classes=classes, position="learned")


def _classify(given: Given, cfg: Config, inputs: Inputs, pool: str) -> tuple[Array, Array]:
    """Features and logits of the whole images."""
    geometry = _classifier_geometry(cfg, inputs, pool)
    unused = ("decoder_*", "mask_token", "norm.*" if pool == "gap" else "fc_norm.*")
    arrays, like = pretraining.params_of(given), param_tree(geometry)
    params = from_torch(arrays, LAYOUTS["classify"](geometry), like, allow_unused=unused)
    size = Size(**inputs.model["encoder"])
    model = Classifier(size, geometry.grid, geometry.num_classes, pool, eps=cfg["norm_eps"])
    patches = patchify(inputs.images, (geometry.patch_size, geometry.patch_size))
    return jax.jit(model.apply)({"params": params}, patches)


def _layer_decay(given: Given, cfg: Config, inputs: Inputs) -> Outputs:
    """[lr multiplier, weight decay] by torch key, in the fine-tuning recipe of the sheet."""
    geometry, finetune = _classifier_geometry(cfg, inputs, "gap"), cfg["finetune"]
    recipe = SimpleNamespace(
        lr=1.0,
        layer_decay=finetune["layer_decay"],
        weight_decay=finetune["weight_decay"],
        groups=((r"(pos_embed|cls_token)$", "no_decay"),),
    )
    rules = param_rules(recipe, layers=inputs.method().layers)
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape), param_tree(geometry))
    layout = LAYOUTS["classify"](geometry)
    full = lambda leaf, value: np.broadcast_to(value, leaf.shape)  # noqa: E731
    rates = to_torch(jax.tree.map(full, tree, rules.multipliers(tree)), layout)
    decays = to_torch(jax.tree.map(full, tree, rules.decay_mask(tree)), layout)
    weight = float(recipe.weight_decay)
    table = {k: [_only(rates[k]), weight if _only(decays[k]) else 0.0] for k in rates}
    return {"lrd/table_json": json.dumps(table)}


def _only(array: np.ndarray) -> Any:
    """The one value that fills the array."""
    (value,) = np.unique(array)
    return value.item()


def _lars(given: Given, cfg: Config, inputs: Inputs) -> Outputs:
    """As many steps as there are gradients."""
    settings = dict(cfg["lars"])
    optimizer = lars(settings.pop("lr"), **settings)
    params = {name: jnp.asarray(given[f"lars/{name}0"]) for name in ("w", "b")}
    state, results = optimizer.init(params), {}
    for i in range(len([key for key in given if re.fullmatch(r"lars/gw\d+", key)])):
        grads = {name: jnp.asarray(given[f"lars/g{name}{i}"]) for name in params}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        results |= {f"lars/{name}{i + 1}": value for name, value in params.items()}
    return results


def _schedule(given: Given, cfg: Config, inputs: Inputs) -> Outputs:
    s = cfg["sched"]
    times = {"total": s["epochs"], "warmup": s["warmup_epochs"]}
    return {"sched/lr": warmup_cosine(s["lr"], floor=s["min_lr"], **times)(given["sched/epoch"])}


def _resized_table(given: Given, cfg: Config, inputs: Inputs) -> Outputs:
    old, new = (pair(side, "interp") for side in cfg["interp"])
    table = resize_table(jnp.asarray(given["pos/interp_in"][0]), old, new)
    return {"pos/interp_out": table[None]}


def _sincos(given: Given) -> Outputs:
    """Sin-cos tables; only their names say their sizes."""
    withheld = getattr(given, "withheld", ("pos/sincos_5x5_dim24_cls",))
    found = (re.fullmatch(r"pos/sincos_(\d+)x(\d+)_dim(\d+)(_cls)?", name) for name in withheld)
    return {
        match[0]: sincos_2d((int(match[1]), int(match[2])), int(match[3]), cls=bool(match[4]))
        for match in found
        if match
    }
