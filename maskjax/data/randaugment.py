"""RandAugment in the form that vision transformers are fine-tuned with.

Cubuk, Zoph, Shlens, Le, "RandAugment: Practical automated data augmentation with a reduced search
space", 2020. The operations, the laws from magnitude to argument and the spelling of the settings
("m9-mstd0.5-inc1") are those of timm's `auto_augment.py`, which the recipes of DeiT, BEiT and MAE
name; each operation is a function of Pillow.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from maskjax.data import colour, geometric
from maskjax.errors import UserError

_SETTINGS = re.compile(r"(mstd|mmax|inc|m|n|p)(\d+(?:\.\d+)?|\.\d+)")


# Laws: (strength in 0 .. 1 of the usual range, sign, increasing) -> argument.
def _enhance(strength: float, sign: int, increasing: bool) -> float:
    # Increasing: 1 changes nothing, and both directions away from it count as stronger.
    return max(0.1, 1 + sign * 0.9 * strength) if increasing else 0.1 + 1.8 * strength


def _posterize(strength: float, sign: int, increasing: bool) -> int:
    bits = int(4 * strength)
    return 4 - bits if increasing else bits


def _solarize(strength: float, sign: int, increasing: bool) -> int:
    threshold = min(256, int(256 * strength))
    return 256 - threshold if increasing else threshold


def _solarize_add(strength: float, sign: int, increasing: bool) -> int:
    return min(128, int(110 * strength))


def _signed(limit: float) -> Callable[[float, int, bool], float]:
    return lambda strength, sign, increasing: sign * limit * strength


# name -> (operation, law of its argument or None, does it take the fill colour)
OPERATIONS = {
    "autocontrast": (colour.autocontrast, None, False),
    "equalize": (colour.equalize, None, False),
    "invert": (colour.invert, None, False),
    "rotate": (geometric.rotate, _signed(30.0), True),
    "posterize": (colour.posterize, _posterize, False),
    "solarize": (colour.solarize, _solarize, False),
    "solarize_add": (colour.solarize_add, _solarize_add, False),
    "saturation": (colour.saturation, _enhance, False),
    "contrast": (colour.contrast, _enhance, False),
    "brightness": (colour.brightness, _enhance, False),
    "sharpness": (colour.sharpness, _enhance, False),
    "shear_x": (geometric.shear_x, _signed(0.3), True),
    "shear_y": (geometric.shear_y, _signed(0.3), True),
    "translate_x": (geometric.translate_x, _signed(0.45), True),
    "translate_y": (geometric.translate_y, _signed(0.45), True),
}
_NAMES = tuple(OPERATIONS)


@dataclass(frozen=True)
class RandAugment:
    """A few operations, chosen with replacement, all of about the same strength.

    Args:
        magnitude: 0 .. 10 (or up to magnitude_max); 10 is the full range of every operation.
        num_layers: operations per picture.
        prob: of each of them to be carried out.
        magnitude_std: standard deviation of the magnitude, drawn anew for each operation; above
            100 it is uniform in 0 .. magnitude.
        magnitude_max: what magnitudes are clipped to; 0 = 10.
        increasing: every operation grows stronger with the magnitude; else posterize, solarize and
            the four enhancements have their first laws, which do not.
        fill: what comes in from outside the picture, one value per channel.
    """

    magnitude: float = 10.0
    num_layers: int = 2
    prob: float = 0.5
    magnitude_std: float = 0.0
    magnitude_max: float = 0.0
    increasing: bool = False
    fill: tuple[int, ...] = (128, 128, 128)

    def __post_init__(self):
        colour.check_share("p of RandAugment", self.prob)
        if self.num_layers < 1:
            raise UserError(f"n of RandAugment must be at least 1, found {self.num_layers}")

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        for number in rng.integers(len(OPERATIONS), size=self.num_layers):
            applied = rng.random() < self.prob
            magnitude = self._draw(rng)
            sign = -1 if rng.random() < 0.5 else 1
            if applied:
                picture = self.apply(picture, _NAMES[number], magnitude, sign)
        return picture

    def apply(
        self, picture: Image.Image, name: str, magnitude: float, sign: int = 1
    ) -> Image.Image:
        """One operation of ``OPERATIONS``; sign 1 or -1 is its direction, if it has one."""
        operation, law, filled = OPERATIONS[name]
        arguments = [] if law is None else [law(magnitude / 10, sign, self.increasing)]
        return operation(picture, *arguments, *([self.fill] if filled else []))

    def _draw(self, rng: np.random.Generator) -> float:
        spread = rng.standard_normal(), rng.random()
        if self.magnitude_std > 100:
            magnitude = self.magnitude * spread[1]
        else:
            magnitude = self.magnitude + self.magnitude_std * spread[0]
        return min(max(magnitude, 0.0), self.magnitude_max or 10.0)


def parse(text: str, fill: tuple[int, ...] = (128, 128, 128)) -> RandAugment:
    """RandAugment from settings such as "m9-mstd0.5-inc1", with or without "rand-" in front.

    Raises:
        UserError: an entry that is none of m, n, p, mstd, mmax, inc with a number behind it.
    """
    fields = {"m": "magnitude", "p": "prob", "mstd": "magnitude_std", "mmax": "magnitude_max"}
    found: dict[str, float] = {}
    for entry in text.removeprefix("rand-").split("-"):
        match = _SETTINGS.fullmatch(entry)
        if match is None:
            raise UserError(
                f"RandAugment {text!r}: {entry!r} is not one of m, n, p, mstd, mmax, inc with a"
                " number behind it; write it as m9-mstd0.5-inc1"
            )
        key, value = match.groups()
        if key == "n":
            found["num_layers"] = int(float(value))
        elif key == "inc":
            found["increasing"] = bool(float(value))
        else:
            found[fields[key]] = float(value)
    return RandAugment(**found, fill=fill)
