"""spark_resnet.npz and spark_convnext.npz: official SparK, all of it."""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax import losses
from maskjax.interop.convert import from_torch, to_torch
from maskjax.interop.layouts import spark
from maskjax.interop.rules import Layout
from maskjax.masking import Draws
from maskjax.method import Method, build_method
from maskjax.nn.families import geometry_from
from maskjax.train import fill
from maskjax.train.fill import exported
from maskjax.train.state import TrainState

INPUTS = ("config", "param/*", "input/*", "mask/active")
Given = Mapping[str, np.ndarray]


def config_of(given: Given) -> dict[str, Any]:
    """The file's configuration as entries of `config.model`."""
    cfg = json.loads(str(given["config"]))
    stride = given["input/image"].shape[-1] // given["mask/active"].shape[-1]
    if cfg["arch"] == "resnet":
        sizes = {"stem": cfg["stem_width"], "widths": tuple(cfg["planes"])}
        sizes["expansion"] = cfg["enc_feat_map_chs"][0] // cfg["planes"][0]
    else:
        scale = cfg["layer_scale_init_value"]
        sizes = {"widths": tuple(cfg["dims"]), "layer_scale": scale}
    return {
        **pretraining.pixels(given["input/image"].shape[1]),
        "image_size": tuple(given["input/image"].shape[2:]),
        "patch_size": (stride, stride),
        "backbone": cfg["arch"],
        cfg["arch"]: {**sizes, "blocks": tuple(cfg["depths"])},
        "mask_ratio": cfg["mask_ratio"],
        "drop_path": 0.0,
        "decoder_width": cfg["decoder_width"],
    }


def outputs(given: Given) -> dict[str, Any]:
    """Maps, dense maps and pictures by running statistics; loss and gradient by the batch's."""
    image = pretraining.channels_last(given["input/image"])
    batch, active = {"image": image}, given["mask/active"].reshape(len(image), -1)
    config = config_of(given)
    method = build_method("mim.spark", config, batch)
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    rules = rules_of(method, config)
    like = exported(method, *shapes)
    tree = from_torch(pretraining.params_of(given), rules, like, allow_unused=spark.UNUSED)
    state = fill.placed(TrainState(jnp.int32(0), shapes[0], {}, shapes[1]), method.weights, tree)
    params, extra = state.params, state.extra
    # Cells of the least noise stay visible.
    noise = jnp.asarray(1.0 - active, jnp.float32)

    def seen(params, extra, image, noise):
        draws = Draws.replay({"mask": noise})
        return method.predict["activations"](params, extra, {"image": image}, draws)

    def objective(params, extra, image, noise):
        draws = Draws.replay({"mask": noise})
        phase = method.phases[0].fn
        terms, aux = phase(params, extra, {"image": image}, draws, jnp.int32(0), None)
        return losses.total(terms), method.after_update(params, extra, aux, jnp.int32(0))

    found = jax.jit(seen)(params, extra, image, noise)
    run = jax.jit(jax.value_and_grad(objective, has_aux=True))
    (loss, after), gradient = run(params, extra, image, noise)
    written = lambda params, extra: to_torch(exported(method, params, extra), rules)  # noqa: E731
    moved = {k: v for k, v in written(params, after).items() if "running" in k}
    slopes = {k: v for k, v in written(gradient, extra).items() if "running" not in k}
    return {
        **_maps(found),
        "output/loss_eval": found["loss"].mean(),
        "output/loss_train": loss,
        **{f"output/grad/{key}": value for key, value in slopes.items()},
        **{f"output/after_train_step/{key}": value for key, value in moved.items()},
    }


def rules_of(method: Method, config: Mapping[str, Any]) -> Layout:
    """The import table of a model with these entries."""
    geometry = geometry_from(method.describe["geometry"])
    num_blocks = int(math.log2(config["patch_size"][0]))
    channels = geometry.dim
    return spark.rules(geometry, num_blocks, projected=channels != config["decoder_width"])


def _maps(found: Mapping[str, Array]) -> dict[str, Array]:
    names = {"map": "encoder_feat", "dense": "densified"}
    first = lambda x: jnp.moveaxis(x, -1, 1)  # noqa: E731
    results = {"output/recon_eval": first(found["image"])}
    for key, value in found.items():
        kind, _, number = key.partition("/")
        if number:
            results[f"output/{names[kind]}_{number}"] = first(value)
    return results
