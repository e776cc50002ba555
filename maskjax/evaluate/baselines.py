"""The baseline every score is printed beside: raw pixels as features.

The other one, a network with random weights, is the same evaluator on a state at step 0.
"""

from collections.abc import Iterable

import numpy as np

from maskjax.errors import UserError
from maskjax.evaluate.features import Features, HostBatch, extract, pixels_of

PROTOCOL = "pixels standardised per channel"
_MOST_BYTES = 4e9


def raw_pixels(train: Iterable[HostBatch], test: Iterable[HostBatch]) -> tuple[Features, Features]:
    """Every image, as the evaluation transform leaves it, flattened: float32[n, H * W * C].

    Each channel is standardised with its mean and standard deviation over the training images, as
    a network's input is; without that, brightness rules the cosine similarity and the baseline
    looks worse than it is. `cls` and `mean` are the same array.

    Raises:
        UserError: if the pixels would take more than 4 GB; raw pixels are a baseline for small
            images.
    """
    (rows, channels), (other, _) = _flatten(train), _flatten(test)
    pixels = rows.mean.reshape(-1, channels)
    # float32 sums of many pixels are pairwise in numpy: no precision is lost that matters here.
    mean, std = pixels.mean(0), np.maximum(pixels.std(0), 1e-6)
    for features in (rows, other):
        by_channel = features.mean.reshape(-1, channels)
        by_channel -= mean
        by_channel /= std
    return rows, other


def _flatten(batches: Iterable[HostBatch]) -> tuple[Features, int]:
    seen = channels = 0

    def flatten(batch: HostBatch) -> dict[str, np.ndarray]:
        nonlocal seen, channels
        image = pixels_of(batch)
        channels, seen = image.shape[-1], seen + image.size * 4
        if seen > _MOST_BYTES:
            raise UserError(
                f"raw pixels of images of {' x '.join(map(str, image.shape[1:]))} take more than"
                f" {_MOST_BYTES / 1e9:.0f} GB; leave the raw_pixels evaluator out"
            )
        flat = np.float32(image.reshape(len(image), -1))
        return {"cls": flat[:, :0], "mean": flat}

    features = extract(flatten, batches)
    return features._replace(cls=features.mean), channels
