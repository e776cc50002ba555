"""Which layout a file has, told by its key names alone (never by the shapes of its tensors)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from maskjax.errors import UserError
from maskjax.interop.geometry import Geometry
from maskjax.interop.layouts import LAYOUTS

# What files of each layout may hold: (layout, what to call it, changes to the model's geometry).
ENCODER = {"decoder_dim": 0, "pool": "none", "num_classes": 0}
FULL = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 1, "decoder_mlp_hidden": 8}
WHOLE = {**ENCODER, **FULL}
KINDS = (
    ("mae", "mae, encoder only", ENCODER),
    ("mae", "mae, encoder and decoder", WHOLE),
    (
        "classify",
        "classify, mean pooling (pool='gap')",
        {**ENCODER, "pool": "gap", "num_classes": 1},
    ),
    (
        "classify",
        "classify, class token (pool='cls')",
        {**ENCODER, "pool": "cls", "num_classes": 1},
    ),
    ("hf", "hf, encoder only", ENCODER),
    ("hf", "hf, encoder and decoder", WHOLE),
    ("hf5", "hf5, encoder only", ENCODER),
    ("hf5", "hf5, encoder and decoder", WHOLE),
    ("hf5saved", "hf5saved, encoder and decoder", WHOLE),
)


@dataclass(frozen=True)
class Guess:
    """A layout with the share of names it explains."""

    layout: str
    label: str
    score: float


def names_of(keys: Iterable[str]) -> frozenset[str]:
    """Key names with layer numbers replaced by "{i}"."""
    return frozenset(re.sub(r"\.\d+\.", ".{i}.", key) for key in keys)


def choose(keys: Iterable[str], geometry: Geometry, candidates: Iterable[str] = LAYOUTS) -> str:
    """The layout that knows most of the file's names, for this model; the first one of equals.

    Raises:
        UserError: No candidate knows any of the names.
    """
    names = names_of(keys)
    best, most = "", 0
    for layout in candidates:
        known = len(names & _names(layout, geometry))
        if known > most:
            best, most = layout, known
    if not best:
        some = ", ".join(sorted(names)[:5]) or "none at all"
        raise UserError(
            f"no layout known here ({', '.join(LAYOUTS)}) has keys like this file's: {some}."
        )
    return best


def looks_like(keys: Iterable[str], geometry: Geometry) -> Guess | None:
    """The kind of file whose names agree best with these, whatever the model; None for no match.

    The score is the number of common names over the number of all names of both.
    """
    names = names_of(keys)
    guesses = []
    for layout, label, changes in KINDS:
        expected = _names(layout, replace(geometry, cls=True, **changes))
        guesses.append(Guess(layout, label, len(names & expected) / len(names | expected)))
    best = max(guesses, key=lambda guess: guess.score)
    return best if best.score > 0 else None


def _names(layout: str, geometry: Geometry) -> frozenset[str]:
    try:
        return frozenset(rule.theirs for rule in LAYOUTS[layout](geometry))
    except UserError:  # the layout cannot hold such a model, so the file is not of this layout
        return frozenset()
