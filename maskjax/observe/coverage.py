"""The mask coverage map: how often each patch position was hidden, as a heat map.

A generator that never hides the last row, or favours the centre, shows here at a glance.
"""

from typing import Any

import numpy as np

from maskjax.errors import UserError
from maskjax.observe import canvas

_MARGIN, _SIZE, _LEAST_SPAN = 18, 360, 0.2


def coverage_map(
    frequency: np.ndarray, *, num_masks: int | None = None, title: str = "Mask coverage"
) -> np.ndarray:
    """A heat map of how often each patch position was hidden, with a scale beside it.

    The colours span the values found, but at least 0.2, so that chance does not look like a
    pattern.

    Args:
        frequency: float[h, w] in 0..1, one value per patch position.
        num_masks: over how many masks it was counted, for the caption.
        title: a line above.

    Returns:
        uint8[H, W, 3].

    Raises:
        UserError: if it is not a grid of values in 0..1.
    """
    from PIL import Image

    frequency = np.asarray(frequency, np.float64)
    if frequency.ndim != 2 or not frequency.size or frequency.min() < 0 or frequency.max() > 1:
        raise UserError(f"mask coverage must be a grid of shares in 0..1, got {frequency.shape}")
    low, high = _span(frequency)
    cell = max(3, _SIZE // max(frequency.shape))
    cells = canvas.enlarge(canvas.colour((frequency - low) / (high - low)), cell)
    height, width = cells.shape[:2]
    full = max(width + 110, 400)
    over = f" over {num_masks:,} masks" if num_masks else ""
    caption = (
        f"Hidden share of each patch position{over}: mean {frequency.mean():.3f},"
        f" lowest {frequency.min():.3f}, highest {frequency.max():.3f}."
    )
    titles = canvas.TextBlock(title, 20, full - 2 * _MARGIN)
    captions = canvas.TextBlock(caption, 14, full - 2 * _MARGIN)
    top = _MARGIN + titles.height
    image, draw = canvas.blank(full, top + height + 12 + captions.height + _MARGIN)
    titles.draw(draw, (_MARGIN, _MARGIN - 4), canvas.INK)
    captions.draw(draw, (_MARGIN, top + height + 12), canvas.SOFT_INK)
    image.paste(Image.fromarray(cells), (_MARGIN, top))
    if cell >= 32:
        _write_values(draw, frequency, (low, high), cell, top)
    _draw_scale(image, draw, (low, high), (_MARGIN + width + 16, top, height))
    return np.array(image)


def _span(frequency: np.ndarray) -> tuple[float, float]:
    low, high = float(frequency.min()), float(frequency.max())
    if high - low < _LEAST_SPAN:
        half = _LEAST_SPAN / 2
        middle = min(max((low + high) / 2, half), 1 - half)
        low, high = middle - half, middle + half
    return low, high


def _write_values(
    draw: Any, frequency: np.ndarray, span: tuple[float, float], cell: int, top: int
) -> None:
    """The percentage in the middle of each cell, dark on light colours and light on dark ones."""
    size = min(18, cell * 2 // 5)
    for (row, column), value in np.ndenumerate(frequency):
        bright = (value - span[0]) / (span[1] - span[0]) > 0.6
        place = (_MARGIN + (column + 0.5) * cell, top + (row + 0.5) * cell)
        ink = canvas.INK if bright else canvas.PAPER
        draw.text(place, f"{100 * value:.0f}", ink, canvas.font(size), anchor="mm")


def _draw_scale(
    image: Any, draw: Any, span: tuple[float, float], place: tuple[int, int, int]
) -> None:
    """The colour bar at (x, top, height), with the share at both ends and in the middle."""
    from PIL import Image

    x, top, height = place
    bar = canvas.colour(np.linspace(1, 0, height))[:, None].repeat(14, 1)
    image.paste(Image.fromarray(bar), (x, top))
    for share in (0.0, 0.5, 1.0):
        value = span[0] + share * (span[1] - span[0])
        y = top + (1 - share) * (height - 1)
        anchor = {0.0: "ld", 0.5: "lm", 1.0: "la"}[share]
        draw.text((x + 20, y), f"{100 * value:.0f} %", canvas.SOFT_INK, canvas.font(14), anchor)
