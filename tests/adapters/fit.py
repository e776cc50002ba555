"""fit.npz: the chunk-causal mask only."""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from maskjax.masking.attend import chunk_causal

INPUTS = ("config", "param/*", "input/*")
PARTIAL = "mask; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Who may attend to whom among the latents of all groups."""
    cfg = json.loads(str(given["config"]))["enc"]
    allow = chunk_causal(cfg["num_groups"], cfg["latents_per_group"])
    return {"output/chunk_causal_allowed": allow.astype(jnp.float32)}
