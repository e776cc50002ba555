"""mixedae.npz (formulas of the sheet): who owns which token, mixing and un-mixing."""

import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from maskjax.masking import mixing

INPUTS = (
    "config",
    "mix/noise",
    "mix/embeddings",
    "mix/segment",
    "unmix/tokens",
    "unmix/mask_token",
)
PARTIAL = "owners, mixing and un-mixing; attention and losses with the method"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The assignment and what follows from it alone."""
    num_images = json.loads(str(given["config"]))["G"]
    noise, x, segment, tokens, mask_token = (jnp.asarray(given[key]) for key in INPUTS[1:])
    owner = mixing.groups_mix(noise, noise.shape[1], num_images=num_images)
    apart = mixing.unmix(tokens, owner, mask_token, num_images=num_images)
    return {
        "mix/assignment": owner,
        "mix/mixed": mixing.mix(x + segment[:, None], owner),
        "unmix/out": apart.reshape(-1, *apart.shape[2:]),
    }
