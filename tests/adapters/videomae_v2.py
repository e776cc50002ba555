"""videomae_v2.npz: official VideoMAE V2. Here the running-cell maps and the weights of the loss."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking import from_hidden
from maskjax.masking.video import running_cell

# The two masks of the clips were drawn by the reference; the file has no noise for them.
INPUTS = ("config", "param/*", "input/*", "mask/encoder_masked", "mask/decoder_dropped")
PARTIAL = "mask keys; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """The decoder's map for each start."""
    cfg = json.loads(str(given["config"]))
    steps = cfg["num_frames"] // cfg["tubelet_size"]
    side = cfg["img_size"] // cfg["patch_size"]
    num_predicted = steps * side**2 - int(4 * cfg["decoder_mask_ratio"]) * steps * side**2 // 4

    def dropped(start: Array) -> Array:
        return running_cell(start, (steps, side, side), num_visible=num_predicted).hidden()

    maps = jax.vmap(dropped)(jnp.arange(4))
    unseen, ignored = (given[f"mask/{name}"] > 0 for name in ("encoder_masked", "decoder_dropped"))
    predicted, _ = from_hidden(jnp.asarray(ignored), num_visible=num_predicted)
    # Predicted tokens that the encoder saw are queries, but have no weight.
    weight = jnp.take_along_axis(jnp.asarray(unseen), predicted.visible_ids, -1)
    return {
        "mask/running_cell_all_maps": maps.reshape(4, steps, -1).astype(jnp.float32),
        "output/loss_mask_dual": weight.astype(jnp.int32),
    }
