"""gallery.png: all drawings with their calls and coverage maps on one sheet."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from maskjax.gallery import render
from maskjax.observe import canvas

TILE, GAP, MARGIN, SMALL = 208, 20, 40, 46
COLUMNS, TEXT_HEIGHT, HEADING = 10, 116, 34
CODE_INK, RULE = (52, 72, 96), (31, 111, 196)
TITLE = "maskjax.masking"
SUBTITLE = (
    "{num} mask generators and operations on one photograph: pure functions of a key, exact counts,"
    " the same on any number of devices. Small maps: how often each place is hidden over many keys,"
    " blue to yellow is 25 points around the mean (attention: the whole matrix)."
)


@dataclasses.dataclass(frozen=True)
class Card:
    """What stands on the sheet for one entry.

    Attributes:
        family, title, source, call: texts.
        tile: uint8[TILE, TILE, 3].
        small: uint8[h, w, 3], the coverage map or matrix, or None.
    """

    family: str
    title: str
    source: str
    call: str
    tile: np.ndarray
    small: np.ndarray | None = None


def sheet(cards: Sequence[Card], columns: int = COLUMNS) -> np.ndarray:
    """The sheet as uint8[H, W, 3]: cards in order, a heading over each run of a family."""
    columns = min(columns, len(cards))
    rows = -(-len(cards) // columns)
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    subtitle = canvas.TextBlock(SUBTITLE.format(num=len(cards)), 20, width - 2 * MARGIN)
    top, step = MARGIN + 64 + subtitle.height, HEADING + TILE + TEXT_HEIGHT
    image, draw = canvas.blank(width, top + rows * step + MARGIN - 24)
    draw.text((MARGIN, MARGIN - 12), TITLE, canvas.INK, canvas.font(46))
    subtitle.draw(draw, (MARGIN, MARGIN + 48), canvas.SOFT_INK)
    for row in range(rows):
        line = cards[row * columns : (row + 1) * columns]
        _headings(draw, line, top + row * step)
        for column, card in enumerate(line):
            place = (MARGIN + column * (TILE + GAP), top + row * step + HEADING)
            _card(image, draw, card, place)
    return np.array(image)


def _headings(draw: Any, line: Sequence[Card], y: int) -> None:
    """A rule and a name over each run of cards of one family."""
    for column, card in enumerate(line):
        if column and line[column - 1].family == card.family:
            continue
        run = 1
        while column + run < len(line) and line[column + run].family == card.family:
            run += 1
        x = MARGIN + column * (TILE + GAP)
        draw.rectangle((x, y, x + run * (TILE + GAP) - GAP - 1, y + 2), RULE)
        draw.text((x, y + 7), card.family, RULE, canvas.font(18))


def _card(image: Any, draw: Any, card: Card, place: tuple[int, int]) -> None:
    x, y = place
    image.paste(Image.fromarray(card.tile), place)
    room, y = TILE, y + TILE + 8
    if card.small is not None:
        small = render.thumbnail(card.small, SMALL)
        image.paste(Image.fromarray(small), (x + TILE - SMALL, y))
        room -= SMALL + 8
    draw.text((x, y - 2), card.title, canvas.INK, canvas.font(16))
    source = canvas.TextBlock(card.source, 11, room)
    source.draw(draw, (x, y + 19), canvas.SOFT_INK)
    lines = wrap(card.call, TILE // _advance())
    for number, text in enumerate(lines):
        draw.text((x, y + 52 + 13 * number), text, CODE_INK, _mono())


def wrap(code: str, width: int) -> list[str]:
    """Code in lines of at most `width` characters, broken at spaces, continued with an indent."""
    lines: list[str] = []
    for word in code.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return lines


@functools.cache
def _mono() -> Any:
    """DejaVu Sans Mono, which comes with matplotlib; found without importing it."""
    folder = pathlib.Path(importlib.util.find_spec("matplotlib").submodule_search_locations[0])
    return ImageFont.truetype(str(folder / "mpl-data/fonts/ttf/DejaVuSansMono.ttf"), 10)


def _advance() -> int:
    """Pixels of a character, rounded up."""
    return int(np.ceil(_mono().getlength("m" * 20) / 20))
