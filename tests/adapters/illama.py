"""illama.npz: the schedules of the soft causal mask only."""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from maskjax.masking.attend import soft_causal_schedule

INPUTS = ("config", "param/*", "input/*")
PARTIAL = "mask schedules; the rest with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The softness of every step, for both kinds."""
    cfg = json.loads(str(given["config"]))["schedule"]
    steps = jnp.arange(cfg["epochs"] * cfg["niter_per_ep"])
    options = {"num_steps": cfg["cutoff_epoch"] * cfg["niter_per_ep"], "start": cfg["start"]}
    return {
        f"output/schedule_{kind}": soft_causal_schedule(steps, kind=kind, **options)
        for kind in ("linear", "constant")
    }
