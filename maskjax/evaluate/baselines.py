"""The baseline every score is printed beside: raw pixels as features.

The other one, a network with random weights, is the same evaluator on a state at step 0.
"""

from collections.abc import Iterable

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.features import Features, HostBatch, extract

_MOST_BYTES = 4e9


def raw_pixels(batches: Iterable[HostBatch]) -> Features:
    """Every image, as the evaluation transform leaves it, flattened: float32[n, H * W * C].

    uint8 images are scaled to 0..1. `cls` and `mean` of the result are the same array.

    Raises:
        UserError: if the pixels would take more than 4 GB; raw pixels are a baseline for small
            images.
    """
    seen = 0

    def flatten(batch: HostBatch) -> dict[str, np.ndarray]:
        nonlocal seen
        image = np.asarray(batch["image"])
        seen += image.size * 4
        if seen > _MOST_BYTES:
            raise UserError(
                f"raw pixels of images of {' x '.join(map(str, image.shape[1:]))} take more than"
                f" {_MOST_BYTES / 1e9:.0f} GB; leave the raw_pixels evaluator out"
            )
        scale = 255.0 if image.dtype == np.uint8 else 1.0
        flat = np.float32(image.reshape(len(image), -1)) / np.float32(scale)
        return {"cls": flat[:, :0], "mean": flat}

    features = extract(flatten, batches)
    return features._replace(cls=features.mean)
