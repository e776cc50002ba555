"""MAE: an asymmetric masked autoencoder on pixels.

He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
with the details of the official PyTorch code. The encoder sees a random quarter of the patches;
a small decoder predicts the (patch-normalised) pixels of the others. The body is shared with the
methods that change one part of it and lives in `pretext/masked_autoencoder.py`; what makes it MAE
is here: masks that are uniformly random.
"""

from collections.abc import Hashable

from ml_collections import ConfigDict

from maskjax import masking
from maskjax.masking import Draws, TokenSplit
from maskjax.method import Batch, Method, Schedule, Tree
from maskjax.pretext import masked_autoencoder

DEFAULTS = dict(masked_autoencoder.DEFAULTS)


def build(cfg: ConfigDict, example: Batch, schedule: Schedule) -> Method:
    """MAE from `config.model`.

    Raises:
        UserError: for sizes, ratios or data that do not fit each other.
    """

    def sampler(grid: tuple[int, int], num_visible: int) -> masked_autoencoder.Sampler:
        def sample(draws: Draws, extra: Tree, static: Hashable) -> TokenSplit:
            noise = draws.uniform("mask", (grid[0] * grid[1],))
            return masking.random(noise, grid, num_visible=num_visible)

        return sample

    return masked_autoencoder.method(cfg, example, sampler)
