"""maskalign.npz: official MaskAlign. Here the teacher and the mask that its attention draws."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax.interop.convert import from_torch
from maskjax.interop.layouts import rules_for
from maskjax.interop.paths import names_of
from maskjax.interop.shapes import param_tree
from maskjax.masking import count_visible, guided
from maskjax.nn.geometry import Geometry
from maskjax.nn.teacher_vit import TeacherViT, to_patches
from maskjax.nn.teachers import CLIP
from maskjax.targets import pixels

INPUTS = ("config", "param/*", "input/*", "noise/*")
PARTIAL = "the teacher and the mask; student, targets and losses with the method"
TEACHER = "param/teacher/"
# (mean, standard deviation) of ImageNet, in which the images are, and of CLIP.
IMAGENET = np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)])
CLIP_PIXELS = np.array([(0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)])
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Any]:
    """Activations of the teacher, importance of the patches, and the mask."""
    cfg = json.loads(str(given["config"]))
    images = _for_clip(pretraining.channels_last(given["input/images"]))
    seen = _teacher(given, cfg["teacher"], images)
    layers = [seen["input"], *seen["block"]]
    importance = guided.cls_attention(seen["attention/-1"])
    num_visible = count_visible(importance.shape[1], cfg["mask_ratio"])
    noise = jnp.asarray(given["noise/exponential"])
    split = guided.sampled(noise, importance, num_visible=num_visible)
    return {
        "output/teacher_pixel_values": jnp.moveaxis(images, -1, 1),
        **{f"output/teacher_hidden/{i}": layer for i, layer in enumerate(layers)},
        "output/teacher_attn_last": seen["attention/-1"],
        "output/importance": importance,
        "mask/ids_shuffle": split.ids,
        "mask/ids_keep": split.visible_ids,
    }


def _for_clip(images: Array) -> Array:
    """From one standardisation to the other, [B, H, W, 3]."""
    mean, std = CLIP_PIXELS
    raw = pixels.unstandardize(images, *IMAGENET)
    return pixels.unstandardize(raw, -mean / std, 1 / std)


def _teacher(given: Given, cfg: Mapping[str, Any], images: Array) -> dict[str, Array]:
    """Taps of Hugging Face's CLIP image tower on whole images."""
    sides = ("image_size", "image_size", "patch_size", "hidden_size")
    height, width, patch, dim = (cfg[key] for key in sides)
    sizes = (cfg[f"num_{name}"] for name in ("hidden_layers", "attention_heads"))
    changes = {"activation": cfg["hidden_act"], "eps": cfg["layer_norm_eps"]}
    options = {**CLIP, **changes}
    geometry = Geometry((height, width), patch, 3, dim, *sizes, cfg["intermediate_size"], **options)
    arrays = {k.removeprefix(TEACHER): v for k, v in given.items() if k.startswith(TEACHER)}
    rules = rules_for("hf_clip", geometry, names_of(arrays))
    tree = from_torch(arrays, rules, param_tree(geometry))
    taps = ("input", "block", "attention/-1")
    apply = jax.jit(lambda tree, x: TeacherViT(geometry).apply({"params": tree}, x, taps=taps)[1])
    return apply(tree, to_patches(images, geometry))
