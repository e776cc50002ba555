"""simmim.npz: official SimMIM. Here the masks only."""

import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.cells import cell_of_tokens, coarse, coarse_visible
from maskjax.masking.counts import count_hidden

INPUTS = ("config", "param/*", "input/*", "mask/*/permutation", "rpb/in")
PARTIAL = "mask keys; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array | int]:
    """The mask keys of every model in the file."""
    cfg = json.loads(str(given["config"]))
    results = {}
    for kind in (key.split("/")[1] for key in given if key.endswith("/permutation")):
        model, ratio = cfg[kind], cfg["mask_ratio"]
        grid = (model["img_size"] // model["patch_size"],) * 2
        cell = cfg["mask_patch_size"] / model["patch_size"]
        _, num_cells = cell_of_tokens(grid, cell)
        # The first cells of the permutation are hidden; of the noise, those of the largest values.
        noise = -jnp.argsort(jnp.asarray(given[f"mask/{kind}/permutation"]), -1)
        split = coarse(noise, grid, num_visible=coarse_visible(grid, cell, ratio), cell=cell)
        results[f"mask/{kind}/token_mask"] = split.hidden().reshape(-1, *grid).astype(jnp.int32)
        results[f"mask/{kind}/mask_count"] = count_hidden(num_cells, ratio, rounding="ceil")
    return results
