"""cae_dalle_tokenizer.npz: the encoder of DALL-E's discrete VAE, at a small size."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters import _pretraining as pretraining
from maskjax.interop.convert import from_torch
from maskjax.interop.layouts import dalle
from maskjax.interop.paths import flatten
from maskjax.nn.dalle import DalleEncoder, DalleSize, map_pixels
from maskjax.pretext.visual_tokens import Tokenizer

INPUTS = ("config", "param/*", "input/*")


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Every result of the file, pictures with the channels first."""
    cfg = json.loads(str(given["config"]))
    images = pretraining.channels_last(given["input/image_01"])
    sizes = (cfg["vocab_size"], cfg["n_hid"], cfg["group_count"], cfg["n_blk_per_group"])
    encoder = DalleEncoder(DalleSize(*sizes, channels=cfg["input_channels"]))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
    like = {"encoder": shapes}
    params = from_torch(pretraining.params_of(given), dalle.rules(flatten(like)), like)
    stats = ((0.0,) * images.shape[-1], (1.0,) * images.shape[-1])
    tokenizer = Tokenizer(encoder, None, images.shape[1:3], images.shape[-1], "", *stats)
    groups = [f"group_{i}" for i in range(1, cfg["group_count"] + 1)]

    def run(params, images):
        mapped = map_pixels(images)
        logits, seen = encoder.apply({"params": params["encoder"]}, mapped, taps=groups)
        ids = tokenizer.ids(params, {"image": images})
        return {"mapped": mapped, "logits": logits, **seen}, ids

    pictures, ids = jax.jit(run)(params, images)
    results = {f"output/{name}": jnp.moveaxis(x, -1, 1) for name, x in pictures.items()}
    rows, columns = pictures["logits"].shape[1:3]
    return {**results, "output/token_ids": ids.reshape(-1, rows, columns)}
