"""colormae.npz: the noise. The masks need the corner and flips, recorded among the outputs only."""

import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from maskjax.masking.noise_filters import SIGMAS, filter_noise, make_bank, radial_power

INPUTS = ("config", "input/*")
PARTIAL = "noise and banks; the drawn windows are recorded as outputs, masks: test_colored.py"


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Blurs, coloured noise, banks and their spectra."""
    cfg, white = json.loads(str(given["config"])), jnp.asarray(given["input/white"])
    widths = {"red": ("sigma",), "green": ("sigma1", "sigma2")}
    widths |= {"blue": widths["red"], "purple": widths["green"]}
    blurs = ("sigma", "sigma1", "sigma2")
    results = {f"filter/gauss_{s}": filter_noise(white, "red", (cfg[s],)) for s in blurs}
    for color in (c for c in SIGMAS if c != "white"):
        sigmas = tuple(cfg[name] for name in widths[color])
        noise = filter_noise(white, color, sigmas)
        results |= {
            f"filter/{color}": noise,
            f"noise/{color}_unit": make_bank(white, color, shape=white.shape, sigmas=sigmas),
            f"output/{color}/radial_power": radial_power(noise),
        }
    return results
