"""Slices of splits, "train[:1%]" or "train[100:200]+test", cut where tfds would cut them."""

import re
from dataclasses import dataclass

from maskjax.errors import UserError

_PART = re.compile(r"(?P<name>[^\[\]+]*)(\[(?P<slice>[^\[\]]*)\])?")
_BOUNDARY = re.compile(r"(?P<value>-?\d[\d_]*(\.\d+)?)(?P<unit>%?)")
_EXAMPLES = "train[:1%], train[100:200], train[50%:], train[-10:], train[:90%]+test"


@dataclass(frozen=True)
class SplitPart:
    """A split, or a slice of it.

    Attributes:
        name: of the whole split.
        low, high: the boundaries; None = from the start, to the end; negative = from the end.
        percent: they are per cent of the split's size, else numbers of examples.
    """

    name: str
    low: float | None = None
    high: float | None = None
    percent: bool = False

    @property
    def whole(self) -> bool:
        """There is no slice."""
        return self.low is None and self.high is None

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        low, high = (
            "" if edge is None else f"{edge:g}{unit}" if self.percent else f"{edge:.0f}"
            for edge in (self.low, self.high)
        )
        return self.name if self.whole else f"{self.name}[{low}:{high}]"

    def numbers(self, size: int) -> range:
        """Which examples of a split of ``size`` examples this part holds.

        The boundaries are those of tensorflow_datasets (its rounding "closest"): per cents go to
        the nearest whole example, halves to the even one.

        Raises:
            UserError: a boundary lies outside, or nothing is left between them.
        """
        low = 0 if self.low is None else self._example(self.low, size)
        high = size if self.high is None else self._example(self.high, size)
        if max(abs(low), abs(high)) > size:
            raise UserError(f"split {str(self)!r}: {self.name!r} has only {size} examples")
        chosen = range(low + size * (low < 0), high + size * (high < 0))
        if not chosen:
            raise UserError(f"split {str(self)!r} is empty: {self.name!r} has {size} examples")
        return chosen

    def _example(self, edge: float, size: int) -> int:
        return round(edge * size / 100.0) if self.percent else int(edge)


def parse(split: str) -> tuple[SplitPart, ...]:
    """The parts of a split string, which are joined by "+".

    Raises:
        UserError: it is none.
    """
    return tuple(_part(text.strip(), split) for text in split.split("+"))


def _part(text: str, split: str) -> SplitPart:
    match = _PART.fullmatch(text)
    if match is None or ("+" in split and not match["name"]):
        raise UserError(f"cannot read the split {split!r}; examples: {_EXAMPLES}")
    if match["slice"] is None:
        return SplitPart(match["name"])
    edges = [edge.strip() for edge in match["slice"].split(":")]
    found = [_BOUNDARY.fullmatch(edge) for edge in edges if edge]
    if len(edges) != 2 or not found or not all(found):
        raise UserError(f"cannot read the slice in split {split!r}; examples: {_EXAMPLES}")
    units = {edge["unit"] for edge in found}
    percent = units == {"%"}
    if len(units) > 1:
        raise UserError(f"split {split!r}: write both boundaries in % or both as numbers")
    if any(abs(float(edge["value"])) > 100 for edge in found) and percent:
        raise UserError(f"split {split!r}: per cents are -100 .. 100")
    if any("." in edge["value"] for edge in found) and not percent:
        raise UserError(f"split {split!r}: numbers of examples are whole")
    low, high = (float(edge) if edge else None for edge in (e.rstrip("%") for e in edges))
    return SplitPart(match["name"], low, high, percent)
