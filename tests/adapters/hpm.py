"""hpm.npz: how many hard patches each epoch hides."""

import json
from collections.abc import Mapping

import numpy as np

from maskjax.masking import count_visible, guided

INPUTS = ("config", "param/*", "input/*", "noise/*")
PARTIAL = "hard counts; masks follow the network's predicted losses (law: test_guided.py)"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """n_hard by epoch."""
    cfg = json.loads(str(given["config"]))
    num_tokens = given["noise/mask_random"].shape[1]
    num_hidden = num_tokens - count_visible(num_tokens, cfg["mask_ratio"])
    return {
        f"mask/epoch{epoch}_of{epochs}_n_hard": guided.hard_counts(epochs, num_hidden)[epoch]
        for epoch, epochs in cfg["mask_epochs"]
    }
