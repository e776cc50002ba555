"""outline_inpaint.npz: the masks only (OpenCV's morphology and the mask at the latents' size)."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from maskjax.masking.morphology import dilate, erode
from maskjax.masking.pyramid import nearest

INPUTS = ("config", "input/*", "mask/object")
PARTIAL = "masks; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Erosions of the sizes that the names say, the dilation, the latent mask."""
    cfg = json.loads(str(given["config"]))
    mask = jnp.asarray(given["mask/object"] > 0)
    names = getattr(given, "withheld", ("output/eroded_1",))
    found = (re.fullmatch(r"output/eroded_(\d+)", name) for name in names)
    region = erode(mask, cfg["kernel"])
    size = tuple(side // cfg["latent_down"] for side in mask.shape)
    return {
        **{match[0]: erode(mask, int(match[1])).astype(jnp.int32) for match in found if match},
        "output/dilated": dilate(mask, cfg["kernel"]).astype(jnp.int32),
        "output/latent_mask": nearest(region, size)[None, None].astype(jnp.float32),
    }
