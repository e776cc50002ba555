"""gallery.png: all drawings with their calls and coverage maps on one sheet."""

import dataclasses
import functools
import importlib.util
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from maskjax.gallery import render
from maskjax.observe import canvas

CODE_INK, RULE = (52, 72, 96), (31, 111, 196)
TITLE = "maskjax.masking"
SUBTITLE = (
    "{num} mask generators and masked operations for JAX on one photograph: pure functions of a"
    " key, exact counts, the same on any number of devices."
)
LEGEND = (
    "Small maps: how often each place is hidden, over many keys (25 points below the mean: blue; 25"
    " above: yellow). Small matrices: attention of all queries (down) to all keys."
)


@dataclasses.dataclass(frozen=True)
class Card:
    """What stands on the sheet for one entry.

    Attributes:
        family, title, source, call: texts.
        tile: uint8[S, S, 3], at least as large as the layout's tiles.
        small: uint8[h, w, 3], the coverage map or matrix, or None.
    """

    family: str
    title: str
    source: str
    call: str
    tile: np.ndarray
    small: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """Sizes in pixels.

    Attributes:
        tile, gap, margin, small: of the tiles, between them, around them, of the small maps.
        text: height under a tile.
        fonts: of the sheet's title, the headings, the titles.
        details: whether sources, calls and the legend are written.
    """

    tile: int
    gap: int
    margin: int
    small: int
    text: int
    fonts: tuple[int, int, int]
    details: bool
    columns: int = 10


FULL = Layout(208, 20, 40, 46, 134, (46, 18, 16), True)
COMPACT = Layout(116, 12, 20, 26, 34, (30, 14, 11), False)


def sheet(cards: Sequence[Card], layout: Layout = FULL) -> np.ndarray:
    """The sheet as uint8[H, W, 3]: cards in order, a heading over each run of a family."""
    columns, step = min(layout.columns, len(cards)), layout.tile + layout.gap
    width = 2 * layout.margin + columns * step - layout.gap
    lines = [SUBTITLE.format(num=len(cards)), *([LEGEND] if layout.details else [])]
    blocks = [canvas.TextBlock(line, layout.fonts[1], width - 2 * layout.margin) for line in lines]
    top = layout.margin + round(1.3 * layout.fonts[0])
    below = top + sum(block.height for block in blocks) + layout.margin // 3
    heading = round(1.9 * layout.fonts[1])
    high = heading + layout.tile + layout.text
    image, draw = canvas.blank(width, below + -(-len(cards) // columns) * high + layout.margin // 2)
    place = (layout.margin, layout.margin - layout.fonts[0] // 4)
    draw.text(place, TITLE, canvas.INK, canvas.font(layout.fonts[0]))
    for block in blocks:
        block.draw(draw, (layout.margin, top), canvas.SOFT_INK)
        top += block.height
    for start in range(0, len(cards), columns):
        line, y = cards[start : start + columns], below + start // columns * high
        _headings(draw, line, y, layout)
        for column, card in enumerate(line):
            _card(image, draw, card, (layout.margin + column * step, y + heading), layout)
    return np.array(image)


def _headings(draw: Any, line: Sequence[Card], y: int, layout: Layout) -> None:
    """A rule and a name over each run of cards of one family."""
    step = layout.tile + layout.gap
    for column, card in enumerate(line):
        if column and line[column - 1].family == card.family:
            continue
        run = 1
        while column + run < len(line) and line[column + run].family == card.family:
            run += 1
        x = layout.margin + column * step
        draw.rectangle((x, y, x + run * step - layout.gap - 1, y + 1), RULE)
        draw.text((x, y + 6), card.family, RULE, canvas.font(layout.fonts[1]))


def _card(image: Any, draw: Any, card: Card, place: tuple[int, int], layout: Layout) -> None:
    (x, y), room, size = place, layout.tile, layout.fonts[2]
    image.paste(Image.fromarray(_fitting(card.tile, layout.tile)), place)
    y += layout.tile + size // 2
    if card.small is not None:
        small = render.thumbnail(card.small, layout.small)
        image.paste(Image.fromarray(small), (x + layout.tile - layout.small, y))
        room -= layout.small + 6
    title = canvas.TextBlock(card.title, size, room)
    title.draw(draw, (x, y - 2), canvas.INK)
    if not layout.details:
        return
    source = canvas.TextBlock(card.source, 11, room)
    source.draw(draw, (x, y + title.height - 10), canvas.SOFT_INK)
    y += max(layout.small + 6, title.height + source.height - 10)
    for number, text in enumerate(wrap(card.call, layout.tile // _advance())):
        draw.text((x, y + 13 * number), text, CODE_INK, _mono())


def _fitting(tile: np.ndarray, side: int) -> np.ndarray:
    if len(tile) == side:
        return tile
    return np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.LANCZOS))


def wrap(code: str, width: int) -> list[str]:
    """Code in lines of at most `width` characters, broken at spaces, continued with an indent.

    Numbers with a comma between them stay together.
    """
    lines: list[str] = []
    for word in re.sub(r"(?<=\d), (?=\d)", ",\0", code).split():
        word = word.replace("\0", " ")
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
