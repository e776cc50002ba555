"""3-Augment of DeiT III."""

import numpy as np
from PIL import Image

from maskjax.data import colour


class ThreeAugment:
    """One of greyscale, solarize and blur for every picture, each equally likely.

    Touvron, Cord, Jegou, "DeiT III: Revenge of the ViT", 2022, figure 3, with the values of its
    code: solarize from 128 on, Gaussian radius uniform in 0.1 .. 2 pixels. There, color jitter of
    0.3 (brightness, contrast, saturation) follows, which is an entry of its own here.
    """

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        choice, radius = rng.integers(3), rng.uniform(0.1, 2.0)
        if choice == 0:
            return colour.greyscale(picture)
        return colour.solarize(picture) if choice == 1 else colour.blur(picture, radius)
