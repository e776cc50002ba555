"""enat.npz: which tokens are masked in training, and how many at each step of generation."""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from maskjax.masking import confidence

INPUTS = ("config", "param/*", "input/*", "noise/*")
PARTIAL = "masks and counts; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The mask keys, and the tokens masked before each step."""
    cfg = json.loads(str(given["config"]))
    masked, before = (given[f"input/{x}_ids"] == cfg["codebook_size"] for x in ("masked", "prev"))
    noise = jnp.asarray(given["noise/mask"])
    num_tokens = noise.shape[1]
    # The number is drawn too; the noise of what the step before hid in addition is not recorded.
    hidden = confidence.hide(noise, num_tokens, jnp.asarray(masked.sum(1)))
    after = confidence.hidden_counts(num_tokens, cfg["gen_steps"])
    return {
        "mask/masked": hidden.astype(jnp.int32),
        "mask/prev_extra_masked": (before & ~masked).astype(np.int32),
        "output/gen/num_masked": np.array([num_tokens, *after[:-1]]),
    }
