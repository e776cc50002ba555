"""How the photographs inside of pairs, videos and modalities are read, resampled and coloured."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from maskjax.data.colour import Stage, apply_stages, check_stages
from maskjax.data.decode import DEFAULT, Decoding, decode
from maskjax.data.resize import check_resampler


@dataclass(frozen=True)
class Photo:
    """Args as of ``transforms.TrainTransform``, which does all this for single images.

    Args:
        channels: of the pictures.
        interpolation, resample: see ``data.resize``.
        decoding: see ``data.decode``.
        stages: of ``data.colour``, in order.

    Raises:
        UserError: a value is out of range.
    """

    channels: int = 3
    interpolation: str = "bicubic"
    resample: str = "pillow"
    decoding: Decoding = DEFAULT
    stages: tuple[Stage, ...] = ()

    def __post_init__(self):
        check_resampler(self.resample, self.interpolation)
        check_stages(self.stages, self.channels)

    def for_evaluation(self) -> "Photo":
        """The same without stages, resampled by Pillow with an antialiased filter."""
        filter_ = "box" if self.interpolation == "area" else self.interpolation
        return dataclasses.replace(self, interpolation=filter_, resample="pillow", stages=())

    def decode(self, data: bytes | np.ndarray, name: str) -> np.ndarray:
        """uint8[H, W, channels]; see ``data.decode``."""
        return decode(data, self.channels, name, self.decoding)

    def colour(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The stages, drawn from ``rng``: uint8[H, W, C] -> uint8[H, W, C]."""
        return apply_stages(self.stages, image, rng)
