"""How a file and a model disagree, and the message that says so in a form one can act on."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]
MAX_LINES = 40


@dataclass
class Differences:
    """What does not fit between a file's tensors and our tree; filled while they are compared.

    Attributes:
        missing: Torch keys that a rule needs and the file lacks.
        unfilled: Paths of ours that no rule of the layout fills.
        unused: Keys of the file that no leaf of ours takes.
        reshaped: Key -> (shape in the file, shape that is needed).
        wrong: Whole sentences on tensors whose contents do not fit (fixed tables, dtypes).
    """

    missing: list[str] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    reshaped: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unfilled or self.unused or self.reshaped or self.wrong)

    def lines(self) -> list[str]:
        """One line for each group of keys that differ only in their numbers."""
        return [
            *self._missing_lines(),
            *(f"  missing: {name} (the layout has no key for it)" for name in group(self.unfilled)),
            *(f"  unused: {name}" for name in group(self.unused)),
            *(f"  shape: {line}" for line in group_shapes(self.reshaped)),
            *(f"  {sentence}" for sentence in self.wrong),
        ]

    def _missing_lines(self) -> Iterable[str]:
        candidates = group(self.unused)
        for name in group(self.missing):
            near = difflib.get_close_matches(name, candidates, n=2, cutoff=0.6)
            yield f"  missing: {name}" + (f" (nearest: {', '.join(near)})" if near else "")

    def message(self, source: str, hints: Iterable[str] = ()) -> str:
        """The whole error: what was read, every difference, then what to do."""
        lines = self.lines()
        more = len(lines) - MAX_LINES
        shown = lines[:MAX_LINES] + ([f"  ... and {more} more lines"] if more > 0 else [])
        return "\n".join([f"{source} does not fit the model:", *shown, *hints])


def group(keys: Iterable[str]) -> list[str]:
    """Fold keys that differ only in numbers: "blocks.{0..11}.norm1.bias (12 keys)".

    Order of first appearance is kept.
    """
    folded: dict[str, list[str]] = {}
    for key in keys:
        folded.setdefault(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", key), []).append(key)
    return [_range(pattern, same) for pattern, same in folded.items()]


def group_shapes(reshaped: Mapping[str, tuple[Shape, Shape]]) -> list[str]:
    """As :func:`group`, for keys with (found, needed) shapes: keys of equal shapes are folded."""
    by_shapes: dict[tuple[Shape, Shape], list[str]] = {}
    for key, shapes in reshaped.items():
        by_shapes.setdefault(shapes, []).append(key)
    return [
        f"{name} is {found} in the file, {needed} in the model"
        for (found, needed), keys in by_shapes.items()
        for name in group(keys)
    ]


def _range(pattern: str, keys: list[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    columns = zip(*(re.findall(r"(?<=\.)\d+(?=\.|$)", key) for key in keys), strict=True)
    bounds = (_span(sorted({int(number) for number in column})) for column in columns)
    name = re.sub(r"\{\}", lambda _: next(bounds), pattern)
    return f"{name} ({len(keys)} keys)"


def _span(numbers: list[int]) -> str:
    first, last = numbers[0], numbers[-1]
    if first == last:
        return str(first)
    whole = len(numbers) == last - first + 1
    return f"{{{first}..{last}}}" if whole else f"{{{','.join(map(str, numbers))}}}"
