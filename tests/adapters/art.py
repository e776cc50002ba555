"""art.npz: ART. Here the tokens that its boxes keep only."""

import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.regions import box_shares

INPUTS = ("config", "param/*", "input/*", "mask/boxes_xyxy_pixels")
PARTIAL = "mask keys; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """The tokens that each layer's box touches; an absent layer has none."""
    cfg = json.loads(str(given["config"]))
    pixels = cfg["vae_downsample"] * cfg["patch"]
    grid = (cfg["image"] // pixels,) * 2
    # (x1, y1, x2, y2) there, (top, left, bottom, right) here.
    boxes = jnp.asarray(given["mask/boxes_xyxy_pixels"])[..., jnp.asarray([1, 0, 3, 2])]
    kept = box_shares(boxes, grid, (pixels, pixels)) > 0
    return {"mask/token_keep": kept.reshape(-1, *grid).astype(jnp.float32)}
