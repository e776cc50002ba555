"""``mix:0.7*SPEC + 0.3*SPEC``: several sources, drawn in given shares.

- ``mix:0.7*folder:/a + 0.3*wds:/b-{0..9}.tar``: shares; the weights need not add up to 1.
- ``mix:folder:/a + folder:/b``: no weights: one pool, shuffled as a whole.
- ``mix:1*folder:/a + 1*npz:/b.npz; train=all; test=``: what the splits of the mixture are called in
  /b, which has no test data.
- ``mix:1*folder:/a + 1*folder:/b | labels=offset``: labels are "keep" (default), "offset" or
  "absent"; see ``wrap.ConcatSource``.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from maskjax.data import source as sources
from maskjax.data.splits import SplitPart
from maskjax.data.wrap import ConcatSource, MixSource
from maskjax.errors import UserError

MAX_WINDOW = 10_000

_PART = re.compile(r"((?P<weight>\d+(\.\d+)?|\.\d+)\s*\*\s*)?(?P<spec>[^;]+?)\s*(;(?P<splits>.*))?")


@dataclass(frozen=True)
class Component:
    """weight: None = not given; spec: see ``data.source``; splits: {the mixture's: its own}."""

    weight: Fraction | None
    spec: str
    splits: dict[str, str]


def example_kind(argument: str) -> str:
    """What the examples are: what those of the first component are."""
    return sources.kind_of_spec(read(argument)[0][0].spec)


def build_parts(argument: str, split: tuple[SplitPart, ...]) -> ConcatSource:
    """Splits: those of the components. A slice in per cent is taken of every component."""
    components, labels = read(argument)
    for part in split:
        if not (part.whole or part.percent):
            raise UserError(
                f"mix:{argument}: the split {str(part)!r} does not say which component it counts"
                f" in; write it behind one, SPEC; {part.name}={part}, or use per cents"
            )
    wanted = [(one, _own_split(one, split)) for one in components]
    present = [(one, own) for one, own in wanted if own]
    if not present:
        raise UserError(f"mix:{argument}: no component has the split {_text(split)!r}")
    options = {
        "labels": labels,
        "names": [one.spec for one, _ in present],
        "prefixes": [f"{number}/" for number, (_, own) in enumerate(wanted) if own],
    }
    parts = [sources.resolve(one.spec, own) for one, own in present]
    if components[0].weight is None:
        return ConcatSource(parts, **options)
    counts = window_counts([one.weight for one, _ in present], argument)
    return MixSource(counts, parts, **options)


def read(argument: str) -> tuple[list[Component], str]:
    """The components of a mixture and what becomes of their labels.

    Raises:
        UserError: it cannot be read, or only some components have a weight.
    """
    text, bar, option = argument.partition(" | ")
    name, _, labels = option.strip().partition("=")
    if bar and name != "labels":
        raise UserError(f"mix:{argument}: after '|' comes labels=keep, offset or absent")
    components = [_component(part, argument) for part in re.split(r"\s\+\s", text)]
    if len({one.weight is None for one in components}) > 1:
        raise UserError(f"mix:{argument}: give every component a weight, or none")
    return components, labels or "keep"


def window_counts(weights: list[Fraction], argument: str = "") -> tuple[int, ...]:
    """The smallest whole numbers in the proportions of the weights.

    Raises:
        UserError: they add up to more than ``MAX_WINDOW``.
    """
    scale = lcm(*(weight.denominator for weight in weights))
    counts = [int(weight * scale) for weight in weights]
    counts = [count // gcd(*counts) for count in counts]
    if sum(counts) > MAX_WINDOW:
        total = sum(weights)
        near = [max(1, round(1000 * weight / total)) for weight in weights]
        raise UserError(
            f"mix:{argument}: these weights hold exactly only over {sum(counts):,} examples (at"
            f" most {MAX_WINDOW:,}); rounder ones: {', '.join(map(str, near))}"
        )
    return tuple(counts)


def _component(text: str, argument: str) -> Component:
    match = _PART.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"mix:{argument}: cannot read {text!r}; components are WEIGHT*SPEC, joined by ' + '"
        )
    if match["spec"].startswith("mix:"):
        raise UserError(f"mix:{argument}: a mixture cannot be part of another; join their lists")
    weight = Fraction(match["weight"]) if match["weight"] else None
    if weight == 0:
        raise UserError(f"mix:{argument}: {match['spec']} has weight 0; leave it out")
    return Component(weight, match["spec"], _splits(match["splits"] or "", argument))


def _splits(text: str, argument: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(";") if pair.strip()]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise UserError(f"mix:{argument}: after ';' come pairs such as train=training; test=")
    return {name.strip(): own.strip() for name, _, own in pairs}


def _own_split(component: Component, split: tuple[SplitPart, ...]) -> str:
    """The component's split string for one of the mixture; "" if it has no part in it."""
    own = [
        name if part.whole else _sliced(component, part, name)
        for part in split
        if (name := component.splits.get(part.name, part.name))
    ]
    return "+".join(own)


def _sliced(component: Component, part: SplitPart, name: str) -> str:
    if "[" in name or "+" in name:
        raise UserError(
            f"{component.spec}; {part.name}={name} is a slice already; it cannot be cut as"
            f" {str(part)!r} once more"
        )
    return str(SplitPart(name, part.low, part.high, part.percent))


def _text(split: tuple[SplitPart, ...]) -> str:
    return "+".join(map(str, split))
