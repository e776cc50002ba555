"""hpm.npz: official HPM. Here the view of the teacher, and the masks that its predictions make.

The teacher is MAE's encoder over all patches, then one of two decoders of MAE's form: of pixels, or
of losses (the mean of its outputs). So both are MAE with other weights and nothing hidden.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax.masking import count_visible, guided

INPUTS = ("config", "param/*", "input/*", "noise/*")
PARTIAL = "the teacher's view and the masks; the student, losses and EMA with the method"
OF_LOSSES = "_losspred"
Given = Mapping[str, np.ndarray]


def outputs(given: Given) -> dict[str, Any]:
    """Full view, hard counts and masks of every epoch."""
    cfg = json.loads(str(given["config"]))
    pixels, difficulty = _view(given, cfg), _view(_predictor(given), cfg)["prediction"].mean(-1)
    return {
        "output/full_view/features": pixels["latent"],
        "output/full_view/pix_pred": pixels["prediction"],
        "output/full_view/loss_pred": difficulty,
        **_masks(jnp.asarray(given["noise/mask_random"]), difficulty, cfg),
    }


def _predictor(given: Given) -> dict[str, np.ndarray]:
    """The weights with the decoder of losses under the names of MAE's decoder."""
    own = {key: value for key, value in given.items() if OF_LOSSES in key}
    return {**given, **{key.replace(OF_LOSSES, ""): value for key, value in own.items()}}


def _view(given: Given, cfg: dict[str, Any]) -> dict[str, Array]:
    """What MAE makes of whole images; tokens in raster order."""
    model = {**pretraining.model_of({**cfg, "in_chans": 3}), "mask_ratio": 0.0}
    images, noise = pretraining.channels_last(given["input/images"]), given["noise/mask_random"]
    unused = (f"decoder_*{OF_LOSSES}*",)
    params = pretraining.read_params(given, model, images, "mae", allow_unused=unused)
    # Nothing is hidden, but the noise still orders the tokens: raster order is that of the file.
    raster = jnp.broadcast_to(jnp.arange(noise.shape[1], dtype=jnp.float32), noise.shape)
    inputs = pretraining.Inputs(model, params, images, raster)
    return pretraining.predict(inputs, "activations", ("latent", "prediction"))


def _masks(noise: Array, difficulty: Array, cfg: dict[str, Any]) -> dict[str, Any]:
    """The student gets the mask of the last epoch of the list."""
    num_tokens, results = noise.shape[1], {}
    num_visible = count_visible(num_tokens, cfg["mask_ratio"])
    for epoch, epochs in cfg["mask_epochs"]:
        number = guided.hard_counts(epochs, num_tokens - num_visible)[epoch]
        options = {"num_visible": num_visible, "num_hard": int(number)}
        hidden = guided.easy_to_hard(noise, difficulty, **options).hidden()
        results[f"mask/epoch{epoch}_of{epochs}"] = hidden.astype(jnp.float32)
        results[f"mask/epoch{epoch}_of{epochs}_n_hard"] = number
    return results | {"mask/used_for_student": hidden.astype(jnp.int32)}
