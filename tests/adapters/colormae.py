"""colormae.npz: coloured noise, banks, and the masks that official ColorMAE cuts from them.

The file records the seed of the reference run, not what was drawn with it. The official code draws
with torch, a corner and two flips for each block of as many images as the bank has slices, the same
for every colour; the recorded corners and flips are those of `torch.manual_seed(seed + 5)`, and of
no other seed near. They are replayed here, and compared like everything else.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adapters._torch_random import TorchRandom
from maskjax.masking import colors, count_visible
from maskjax.masking.noise_filters import SIGMAS, filter_noise, make_bank, radial_power

INPUTS = ("config", "input/*")
SEED_OFFSET = 5  # of the draws of windows, against the file's seed
WIDTHS = {
    "red": ("sigma",),
    "blue": ("sigma",),
    "green": ("sigma1", "sigma2"),
    "purple": ("sigma1", "sigma2"),
}


def outputs(given: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Blurs, coloured noise, banks, their spectra, windows and masks."""
    cfg, white = json.loads(str(given["config"])), jnp.asarray(given["input/white"])
    blurs = ("sigma", "sigma1", "sigma2")
    results = {f"filter/gauss_{s}": filter_noise(white, "red", (cfg[s],)) for s in blurs}
    for color in (c for c in SIGMAS if c != "white"):
        sigmas = tuple(cfg[name] for name in WIDTHS[color])
        noise = filter_noise(white, color, sigmas)
        bank = make_bank(white, color, shape=white.shape, sigmas=sigmas)
        results |= {
            f"filter/{color}": noise,
            f"noise/{color}_unit": bank,
            f"output/{color}/radial_power": radial_power(noise),
            **_masks(color, cfg, bank),
        }
    return results


def _masks(color: str, cfg: dict[str, Any], bank: Array) -> dict[str, Array]:
    """The windows of a batch and the masks cut from them."""
    slices, grid, batch = bank.shape[0], (cfg["grid"],) * 2, cfg["batch"]
    corners, flips = _drawn(cfg["seed"] + SEED_OFFSET, -(-batch // slices), bank.shape[1:], grid)
    image = np.arange(batch)
    (top, left), (mirrored, turned) = corners[image // slices].T, flips[image // slices].T
    windows = colors.BankWindow(image % slices, top, left, turned.astype(bool), mirrored == 1)
    num_visible = count_visible(grid[0] * grid[1], cfg["mask_ratio"])

    @jax.jit
    @jax.vmap
    def cut(window):
        split = colors.colored_from_bank(window, bank, grid, num_visible=num_visible)
        return colors.take_window(bank, window, grid), split

    values, split = cut(windows)
    return {
        f"output/{color}/crop_top_left": corners,
        f"output/{color}/flips_hv": flips,
        f"output/{color}/windows": values,
        f"mask/{color}/mask": split.hidden().astype(jnp.float32),
        f"mask/{color}/ids_restore": split.inverse(),
        f"mask/{color}/ids_keep": split.visible_ids,
    }


def _drawn(
    seed: int, num_blocks: int, size: tuple[int, int], grid: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (top, left) and flips (horizontal, vertical) int32[blocks, 2], in torch's order."""
    random, rows = TorchRandom(seed), []
    for _ in range(num_blocks):
        corner = [random.randint(n - cells + 1) for n, cells in zip(size, grid, strict=True)]
        rows.append([corner, [random.rand() < 0.5, random.rand() < 0.5]])
    drawn = np.array(rows, np.int32)
    return drawn[:, 0], drawn[:, 1]
