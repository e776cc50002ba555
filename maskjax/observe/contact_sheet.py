"""A sheet of training examples: how they are stored, and what augmentation makes of them."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from maskjax.observe import canvas
from maskjax.observe.clouds import cloud_picture

_TILE, _GAP, _MARGIN = 150, 6, 18
_TEXT = 12
_FRAMES = 4  # of a video
_ACROSS = 7  # tiles beside each other, unless one example has more


@dataclasses.dataclass(frozen=True)
class Entry:
    """One example of the sheet.

    Attributes:
        title: its id and label.
        before: pictures uint8[H, W, C] by name; empty if it cannot be used.
        after: the fields of each view: pictures are drawn, other arrays described.
        note: shown in place of the pictures before.
    """

    title: str
    before: dict[str, np.ndarray]
    after: list[dict[str, np.ndarray]]
    note: str = ""


class _Tile(NamedTuple):
    """A picture uint8[H, W, C] with its caption, or text in its place."""

    text: str
    picture: np.ndarray | None = None


def contact_sheet(entries: list[Entry], title: str) -> np.ndarray:
    """uint8[H, W, 3]: each example with its title, then before and after side by side.

    Args:
        entries: at least one; all with the same number of views.
        title: above everything.
    """
    tiles = [_tiles(entry) for entry in entries]
    across = max(len(row) for row in tiles)
    columns = max(1, _ACROSS // across)
    cell = across * (_TILE + _GAP) + 2 * _GAP
    step = _TILE + 2 * canvas.TextBlock("x", _TEXT, cell).height + _GAP
    heading = canvas.TextBlock(title, 16, columns * cell)
    rows = -(-len(entries) // columns)
    image, handle = canvas.blank(
        2 * _MARGIN + columns * cell, 2 * _MARGIN + heading.height + rows * step
    )
    heading.draw(handle, (_MARGIN, _MARGIN), canvas.INK)
    for number, (entry, row) in enumerate(zip(entries, tiles, strict=True)):
        left = _MARGIN + (number % columns) * cell
        top = _MARGIN + heading.height + (number // columns) * step
        _text(handle, (left, top), _fit(entry.title, cell - 2 * _GAP), canvas.INK)
        top += canvas.TextBlock("x", _TEXT, cell).height
        for place, tile in enumerate(row):
            _draw(image, handle, (left + place * (_TILE + _GAP), top), tile)
    return np.asarray(image)


def _tiles(entry: Entry) -> list[_Tile]:
    tiles = [
        _Tile(f"before: {name} {tile.text}", tile.picture)
        for name, value in entry.before.items()
        for tile in _pictures(value)
    ] or [_Tile(entry.note)]
    for number, fields in enumerate(entry.after):
        view = f"after {number + 1}" if len(entry.after) > 1 else "after"
        tiles += [
            _Tile(f"{view}: {name} {tile.text}", tile.picture)
            for name, value in fields.items()
            for tile in _pictures(value)
        ]
    return tiles


def _pictures(value: np.ndarray) -> list[_Tile]:
    """What to draw of a field, or what to say about it."""
    if value.ndim == 4 and value.shape[-1] in (1, 3):
        picks = np.linspace(0, len(value) - 1, min(_FRAMES, len(value))).round().astype(int)
        return [tile for pick in picks for tile in _pictures(value[pick])]
    size = f"{value.shape[0]} x {value.shape[1]}" if value.ndim in (2, 3) else ""
    if value.ndim == 3 and value.dtype == np.uint8:
        return [_Tile(size, value)]
    if value.ndim == 2 and value.shape[1] == 3:
        return [_Tile(size, cloud_picture(value, _TILE))]
    if value.ndim == 2 or (value.ndim == 3 and value.shape[2] == 1):
        return [_Tile(size, _map(value.reshape(value.shape[:2])))]
    return [_Tile(f"{value.dtype}{list(value.shape)} {value.min():.3g} .. {value.max():.3g}")]


def _map(values: np.ndarray) -> np.ndarray:
    """Depths or class numbers [H, W], dark = low, from the smallest to the largest."""
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    return canvas.colour((np.nan_to_num(values) - low) / max(high - low, 1e-9))


def _draw(image: Any, handle: Any, place: tuple[int, int], tile: _Tile):
    from PIL import Image

    if tile.picture is None:
        canvas.TextBlock(tile.text, _TEXT, _TILE).draw(handle, place, canvas.SOFT_INK)
        return
    picture = Image.fromarray(canvas.to_rgb(tile.picture.astype(np.float32) / 255))
    scale = _TILE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    # Small pictures are enlarged as they are, so that their pixels can be seen.
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    image.paste(picture.resize(size, kind), place)
    below = place[0], place[1] + _TILE + 2
    _text(handle, below, _fit(tile.text, _TILE), canvas.SOFT_INK)


def _text(handle: Any, place: tuple[int, int], text: str, ink: tuple[int, int, int]):
    handle.text(place, text, ink, canvas.font(_TEXT))


def _fit(text: str, width: int) -> str:
    """The end of a text that is too wide: ids differ there."""
    if canvas.font(_TEXT).getlength(text) <= width:
        return text
    while text and canvas.font(_TEXT).getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
