"""maskalign.npz: official MaskAlign. Teacher, mask, features of both sides, losses, gradients."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.data.stats import IMAGENET
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import maskalign, rules_for
from maskjax.interop.paths import names_of
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.shapes import param_tree
from maskjax.masking import Draws
from maskjax.method import Method, Tree, build_method
from maskjax.nn.geometry import Geometry
from maskjax.nn.teachers import CLIP

INPUTS = ("config", "param/*", "input/*", "noise/*")
HEADS = {"linear": "linear", "norm_linear": "norm_linear", "mlp": "mlp", "mlp2": "mlp_norm"}
DISTANCES = {"smoothl1": "smooth_l1", "l1": "l1", "l2": "l2"}
STUDENT, TEACHER = "param/student/", "param/teacher/"
VARIANT = re.compile(r"output/loss_variant/(.+)_([a-z0-9]+)$")
NORMS = re.compile(r"output/loss_targetnorm/([a-z0-9]+)_(.+)_([a-z0-9]+)$")
Given = Mapping[str, np.ndarray]
Results = dict[str, Any]


def outputs(given: Given) -> Results:
    """Every result of the file; its variants of the loss are told by their names."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/images"])
    noise = jnp.asarray(given["noise/exponential"])
    method = _method(cfg, images)
    rules = _rules(cfg, method)
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), {"image": images})
    params = from_torch(pretraining.params_of(given, STUDENT), rules, shapes)
    extra = {"teacher": _teacher(cfg, given, images)}
    loss, gradient = _loss(method, params, extra, images, noise)
    gradients = to_torch(gradient, tuple(rule for rule in rules if isinstance(rule, Rule)))
    return {
        **_activations(method, params, extra, images, noise),
        **_variants(given, cfg, params, extra, images, noise),
        "output/loss": loss,
        **{f"output/grad/{key}": value for key, value in gradients.items()},
    }


def _method(cfg: Mapping, images: Array, **changes: Any) -> Method:
    large = cfg["teacher"]
    own = {**CLIP, "activation": large["hidden_act"], "eps": large["layer_norm_eps"]}
    own |= {"dim": large["hidden_size"], "depth": large["num_hidden_layers"]}
    own |= {"heads": large["num_attention_heads"], "mlp_hidden": large["intermediate_size"]}
    own |= {"patch_size": large["patch_size"], "projection": 0}
    change = tuple(f"{key}={value}" for key, value in own.items())
    model = {
        "image_size": cfg["img_size"],
        "patch_size": cfg["patch_size"],
        "mean": IMAGENET[0],
        "std": IMAGENET[1],
        "encoder": pretraining.size(
            cfg["embed_dim"], cfg["depth"], cfg["num_heads"], cfg.get("mlp_ratio", 4.0)
        ),
        "mask_ratio": cfg["mask_ratio"],
        "drop_path": 0.0,
        "teacher": {
            "name": "clip_b16",
            "blocks": 0,
            "image_size": (large["image_size"],) * 2,
            "change": change,
        },
        "fusion": cfg["fusion"],
        "target_norm": cfg["target_norm"],
        "layer_weights": cfg["loss_weights"],
        "distance": DISTANCES[cfg["loss_type"]],
        "head": HEADS[cfg["head"]],
        **changes,
    }
    return build_method("distill.maskalign", model, {"image": images})


def _rules(cfg: Mapping, method: Method) -> Layout:
    return maskalign.rules(pretraining.geometry_of(method), HEADS[cfg["head"]], cfg["fusion"])


def _teacher(cfg: Mapping, given: Given, images: Array) -> Tree:
    """Hugging Face's CLIP image tower, at the size that the method gives it."""
    geometry: Geometry = _method(cfg, images).phases[0].fn.__self__.teacher.geometry
    arrays = pretraining.params_of(given, TEACHER)
    rules = rules_for("hf_clip", geometry, names_of(arrays))
    return from_torch(arrays, rules, param_tree(geometry))


def _activations(method: Method, params: Tree, extra: Tree, images: Array, noise: Array) -> Results:
    taught, input_ = method.phases[0].fn.__self__.teacher, ("input",)

    def run(params, extra, images, noise):
        draws = Draws.replay({"mask": noise})
        seen = method.predict["activations"](params, extra, {"image": images}, draws)
        return seen, taught(extra["teacher"], taught.patches(images), taps=input_)[1]["input"]

    seen, first = jax.jit(run)(params, extra, images, noise)
    num_visible = seen["target"].shape[2] - 1
    blocks = jnp.moveaxis(seen["teacher_blocks"], 1, 0)
    listed = {
        "teacher_hidden": [first, *blocks],
        "student_hidden": jnp.moveaxis(seen["blocks"], 1, 0),
        "student_aligned": jnp.moveaxis(seen["aligned"], 1, 0),
        "target": jnp.moveaxis(seen["target"], 1, 0),
    }
    return {
        **{f"output/{name}/{i}": x for name, all_ in listed.items() for i, x in enumerate(all_)},
        "output/teacher_pixel_values": jnp.moveaxis(seen["teacher_pixels"], -1, 1),
        "output/teacher_attn_last": seen["attention"],
        "output/importance": seen["importance"],
        "mask/ids_shuffle": seen["ids"],
        "mask/ids_keep": seen["ids"][:, :num_visible],
    }


def _variants(
    given: Any, cfg: Mapping, params: Tree, extra: Tree, images: Array, noise: Array
) -> Results:
    wanted: dict[str, dict[str, Any]] = {}
    for key in given.withheld:
        if found := VARIANT.match(key):
            weights, distance = found.groups()
            wanted[key] = {"layer_weights": weights, "distance": DISTANCES[distance]}
        elif found := NORMS.match(key):
            norm, weights, distance = found.groups()
            wanted[key] = {"layer_weights": weights, "distance": DISTANCES[distance]}
            wanted[key]["target_norm"] = norm
        elif key == "output/loss_no_dynamic_alignment":
            wanted[key] = {"fusion": "simple"}
    methods = {key: _method(cfg, images, **changes) for key, changes in wanted.items()}

    def every(params, extra, images, noise):
        # In one program, so that what they share is compiled once.
        unmixed = {name: leaf for name, leaf in params.items() if name != "mix"}
        return {
            key: _objective(method)(
                unmixed if "fusion" in wanted[key] else params, extra, images, noise
            )
            for key, method in methods.items()
        }

    return jax.jit(every)(params, extra, images, noise)


def _loss(
    method: Method, params: Tree, extra: Tree, images: Array, noise: Array
) -> tuple[Array, Tree]:
    return jax.jit(jax.value_and_grad(_objective(method)))(params, extra, images, noise)


def _objective(method: Method):
    """The training path."""

    def objective(params, extra, images, noise):
        draws, step = Draws.replay({"mask": noise}), jnp.int32(0)
        terms, _ = method.phases[0].fn(params, extra, {"image": images}, draws, step, None)
        return losses.total(terms)

    return objective
