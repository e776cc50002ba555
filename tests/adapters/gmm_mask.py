"""gmm_mask.npz: the masks only."""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from maskjax.masking.attend import gaussian_mixture

INPUTS = ("config", "param/*", "input/*")
PARTIAL = "masks; the rest with the method"
LAYER = "param/gmm/transformer.layers.0.0.fn.mask"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The base mask (one kernel of width 1) and the first layer's mixture."""
    cfg = json.loads(str(given["config"]))
    side = cfg["img_size"] // cfg["patch_size"]
    sigma, alpha = (jnp.asarray(given[f"{LAYER}.{name}"])[..., 0, 0] for name in ("sigma", "alpha"))
    one = jnp.ones((1, 1, 1))
    return {
        "output/gmm/base_mask": gaussian_mixture((side, side), one, one, eps=0.0),
        "output/gmm/layer0_weight_mask": gaussian_mixture((side, side), sigma, alpha),
    }
