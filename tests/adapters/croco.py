"""croco.npz and croco_v2.npz: official CroCo. Here the mask only."""

import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking import from_hidden
from maskjax.masking.counts import count_hidden

INPUTS = ("config", "param/*", "input/*", "noise/*")
PARTIAL = "mask keys; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """The mask: entry i of the sorting permutation decides about token i, as in the code."""
    cfg = json.loads(str(given["config"]))
    noise = jnp.asarray(given["noise/mask_noise"])
    num_tokens = noise.shape[-1]
    num_hidden = count_hidden(num_tokens, cfg["mask_ratio"])
    hidden = jnp.argsort(noise, -1) < num_hidden
    split, _ = from_hidden(hidden, num_visible=num_tokens - num_hidden)
    return {"mask/masked": split.hidden().astype(jnp.int32)}
