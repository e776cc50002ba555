"""A table of numbers by layer, drawn with a colour for each cell."""

from collections.abc import Mapping, Sequence

import numpy as np

from maskjax.errors import UserError
from maskjax.observe import canvas

_MARGIN, _CELL, _SIZE = 18, (64, 34), 15


def layer_table(rows: Mapping[str, Sequence[float]], *, title: str = "", caption: str = ""):
    """Rows of numbers, one for each layer, coloured from the row's lowest to its highest.

    Args:
        rows: {what it is: float[L]}; rows may differ in length.
        title: a line above.
        caption: text below.

    Returns:
        uint8[H, W, 3].

    Raises:
        UserError: if there are no rows, or an empty one.
    """
    if not rows or not all(len(values) for values in rows.values()):
        raise UserError("a table of layers needs rows of one number or more")
    font, layers = canvas.font(_SIZE), max(map(len, rows.values()))
    left = _MARGIN + round(max(font.getlength(name) for name in rows)) + 14
    width = max(left + layers * _CELL[0] + _MARGIN, 420)
    titles = canvas.TextBlock(title, 20, width - 2 * _MARGIN)
    captions = canvas.TextBlock(caption, 14, width - 2 * _MARGIN)
    top = _MARGIN + titles.height + _CELL[1]
    below = top + len(rows) * _CELL[1] + 12
    image, draw = canvas.blank(width, below + captions.height + _MARGIN)
    titles.draw(draw, (_MARGIN, _MARGIN - 4), canvas.INK)
    captions.draw(draw, (_MARGIN, below), canvas.SOFT_INK)
    draw.text((_MARGIN, top - _CELL[1] / 2), "layer", canvas.SOFT_INK, font, anchor="lm")
    for layer in range(layers):
        place = (left + (layer + 0.5) * _CELL[0], top - _CELL[1] / 2)
        draw.text(place, str(layer + 1), canvas.SOFT_INK, font, anchor="mm")
    for number, (name, values) in enumerate(rows.items()):
        y = top + number * _CELL[1]
        draw.text((_MARGIN, y + _CELL[1] / 2), name, canvas.INK, font, anchor="lm")
        _draw_row(draw, np.asarray(values, np.float64), (left, y))
    return np.array(image)


def _draw_row(draw, values: np.ndarray, place: tuple[int, int]) -> None:
    low, span = values.min(), np.ptp(values)
    for layer, value in enumerate(values):
        share = (value - low) / span if span else 0.5
        x, y = place[0] + layer * _CELL[0], place[1]
        box = (x, y, x + _CELL[0] - 3, y + _CELL[1] - 3)
        draw.rectangle(box, fill=tuple(int(c) for c in canvas.colour(share)))
        ink = canvas.INK if share > 0.6 else canvas.PAPER
        middle = (x + (_CELL[0] - 3) / 2, y + (_CELL[1] - 3) / 2)
        # Cells are narrow: small numbers are written as 9e-04.
        text = f"{value:.3g}" if value == 0 or abs(value) >= 0.01 else f"{value:.0e}"
        draw.text(middle, text, ink, canvas.font(_SIZE), anchor="mm")
