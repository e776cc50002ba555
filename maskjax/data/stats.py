"""Mean and standard deviation of the pixels, per channel: known ones, and how to compute them."""

from typing import Any

import numpy as np

from maskjax.data.decode import decode
from maskjax.data.source import Source, resolve
from maskjax.data.wrap import kind_of
from maskjax.errors import UserError

Stats = tuple[tuple[float, ...], tuple[float, ...]]

# torchvision's values for ImageNet, which the MAE release uses for every data set.
IMAGENET: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# What `run(spec, "train")` gives, to four digits; (kind, channels) -> (mean, std).
TABLE: dict[tuple[str, int], Stats] = {
    ("photos", 1): ((0.4162,), (0.2371,)),
    ("photos", 3): ((0.4601, 0.4012, 0.3781), (0.2738, 0.2369, 0.2427)),
    ("photo_crops", 1): ((0.4093,), (0.2387,)),
    ("photo_crops", 3): ((0.4521, 0.3952, 0.3701), (0.2763, 0.2378, 0.2426)),
    ("digits", 1): ((0.3051,), (0.3756,)),
    ("digits", 3): ((0.3051,) * 3, (0.3756,) * 3),
    ("mnist5k", 1): ((0.1312,), (0.3084,)),
    ("mnist5k", 3): ((0.1312,) * 3, (0.3084,) * 3),
}


def known_stats(spec: str, channels: int) -> Stats:
    """(mean, std) for a data spec without reading the data, in 0..1 units, one value per channel.

    Embedded and small data sets have their own values; other colour data gets those of ImageNet.

    Raises:
        UserError: nothing is known for this number of channels; the message names the command that
            computes it.
    """
    kind = spec.partition(":")[0]
    if (kind, channels) in TABLE:
        return TABLE[kind, channels]
    if kind == "synthetic":
        return (0.498,) * channels, (0.205,) * channels
    if channels == 3 and not any(name == kind for name, _ in TABLE):
        return IMAGENET
    raise UserError(
        f"no mean and standard deviation are known for {spec!r} with {channels} channels: run"
        f" `maskjax data-stats --data={spec}` and set config.model.mean and config.model.std"
    )


def compute_stats(
    source: Source, channels: int | None = None, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all pixels of all images, in 0..1 units.

    Args:
        source: see ``data.source``; images may differ in size.
        channels: what the images are converted to (see ``data.decode``); None: 3 for encoded
            images, and what they have for arrays.
        limit: use that many images, evenly spaced over the source; None or 0: all of them.

    Returns:
        mean, std: float64[C] (of the population).

    Raises:
        UserError: the source is empty, an image is broken, or two have different channel counts.
    """
    if (kind := kind_of(source)) not in ("image", "pair"):
        raise UserError(f"mean and standard deviation are of images; these are of kind {kind!r}")
    count = min(limit or len(source), len(source))
    if count < 1:
        raise UserError("there are no images to compute the mean and standard deviation of")
    moments: np.ndarray | None = None
    for number in range(count):
        example = source[number * len(source) // count]
        here = _moments(example, channels)
        if moments is not None and here.shape != moments.shape:
            raise UserError(
                f"image {example['id']!r} has {here.shape[1]} channels, the ones before have"
                f" {moments.shape[1]}: say which number of channels to convert to"
            )
        moments = here if moments is None else moments + here
    pixels, total, squares = moments
    mean = total / pixels
    return mean / 255, np.sqrt(squares / pixels - mean**2) / 255


def _moments(example: dict[str, Any], channels: int | None) -> np.ndarray:
    """int64[3, C]: the number of pixels, their sum, the sum of their squares; exact."""
    encoded = isinstance(example["image"], bytes)
    image = decode(example["image"], channels or (3 if encoded else None), example["id"])
    values = image.reshape(-1, image.shape[2]).astype(np.int64)
    return np.stack([np.full(image.shape[2], len(values)), values.sum(0), (values**2).sum(0)])


def run(
    spec: str, split: str = "train", limit: int | None = None, channels: int | None = None
) -> dict[str, Any]:
    """``compute_stats`` of a data spec, as a dict of plain values for printing and for JSON.

    Returns:
        data, split, images (how many were used), of (how many there are), channels, mean, std
        (lists).
    """
    source = resolve(spec, split)
    mean, std = compute_stats(source, channels, limit)
    return {
        "data": spec,
        "split": split,
        "images": min(limit or len(source), len(source)),
        "of": len(source),
        "channels": len(mean),
        "mean": [round(float(value), 4) for value in mean],
        "std": [round(float(value), 4) for value in std],
    }
