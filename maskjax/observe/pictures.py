"""Pictures of what a model does: reconstruction sheets and mask coverage maps, as uint8 arrays.

numpy and Pillow only, so that pictures can be made anywhere from saved arrays.
"""

import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from maskjax.errors import UserError
from maskjax.observe import canvas
from maskjax.observe.files import write_atomic

# What a hidden patch looks like in the masked column.
HIDDEN_COLOUR = (203, 208, 214)
_TILE = 128  # small images are enlarged by a whole factor until their longer side has this
_GAP, _MARGIN = 6, 18
_TRUE_STATISTICS = (
    "Patch normalisation was undone with the mean and standard deviation of the true patches,"
    " which the model did not see: shapes are predicted, each patch's colour and contrast are given."
)


def infer_grid(image_size: tuple[int, int], num_tokens: int) -> tuple[int, int]:
    """(rows, columns) of the patch grid, for square patches.

    Args:
        image_size: (height, width) in pixels.
        num_tokens: patches of the image.

    Raises:
        UserError: if square patches do not give that number; then the grid must be told.
    """
    height, width = image_size
    side = round((height * width / num_tokens) ** 0.5)
    fits = side > 0 and height % side == 0 and width % side == 0
    if not fits or (height // side) * (width // side) != num_tokens:
        raise UserError(
            f"{num_tokens} patches do not tile an image of {height} x {width} pixels with squares;"
            " pass grid=(rows, columns)"
        )
    return height // side, width // side


def hidden_pixels(
    hidden: np.ndarray, grid: tuple[int, int], image_size: tuple[int, int]
) -> np.ndarray:
    """hidden bool[B, N] (True = hidden) -> bool[B, H, W].

    Raises:
        UserError: if the grid does not fit N or the image size.
    """
    rows, columns = grid
    height, width = image_size
    if rows * columns != hidden.shape[1] or height % rows or width % columns:
        raise UserError(
            f"a grid of {rows} x {columns} does not fit {hidden.shape[1]} patches of an image of"
            f" {height} x {width} pixels"
        )
    cells = np.asarray(hidden, bool).reshape(-1, rows, columns)
    return cells.repeat(height // rows, 1).repeat(width // columns, 2)


def paste(original: np.ndarray, prediction: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """The prediction where pixels are covered bool[B, H, W], the original elsewhere."""
    return np.where(covered[..., None], prediction, original)


def reconstruction_sheet(
    original: np.ndarray,
    prediction: np.ndarray,
    hidden: np.ndarray,
    *,
    grid: tuple[int, int] | None = None,
    num_images: int = 8,
    patch_normalized: bool = False,
    title: str = "",
    blocks: int | None = None,
) -> np.ndarray:
    """A sheet with original | masked | prediction | pasted for each image.

    Args:
        original: float[B, H, W, C] in 0..1.
        prediction: float[B, H, W, C] in 0..1, of every patch.
        hidden: bool[B, N], True = the model did not see the patch.
        grid: (rows, columns) of the patches; None for square patches.
        num_images: at most so many of the B are shown.
        patch_normalized: targets were normalised per patch; the caption then says that the
            prediction is shown with the true statistics of the patches.
        title: a line above.
        blocks: groups of four columns beside each other; None picks by shape.

    Returns:
        uint8[h, w, 3].

    Raises:
        UserError: if shapes do not fit each other.
    """
    if original.shape != prediction.shape or original.ndim != 4 or not len(original):
        raise UserError(
            f"original {original.shape} and prediction {prediction.shape} must both be"
            " [B, H, W, C] with B > 0"
        )
    original, prediction = original[:num_images], prediction[:num_images]
    size = original.shape[1:3]
    grid = grid or infer_grid(size, hidden.shape[1])
    covered = hidden_pixels(hidden[:num_images], grid, size)
    tiles = _tiles(original, prediction, covered)
    if blocks is None:
        blocks = 2 if len(tiles) > 4 and size[1] < 2 * size[0] else 1
    share = f"{round(100 * float(np.mean(hidden)))} % hidden"
    heads = ("original", f"masked, {share}", "prediction", "prediction + visible")
    notes = [_TRUE_STATISTICS if patch_normalized else "", canvas.channels_note(original.shape[-1])]
    return _sheet(tiles, heads, min(blocks, len(tiles)), title, " ".join(filter(None, notes)))


def _tiles(original: np.ndarray, prediction: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """uint8[B, 4, h, w, 3]: the four pictures of each image, enlarged."""
    shown = canvas.to_rgb(original)
    masked = np.where(covered[..., None], np.uint8(HIDDEN_COLOUR), shown)
    pasted = canvas.to_rgb(paste(original, prediction, covered))
    columns = np.stack([shown, masked, canvas.to_rgb(prediction), pasted], 1)
    factor = max(1, -(-_TILE // max(original.shape[1:3])))
    return columns.repeat(factor, 2).repeat(factor, 3)


def _sheet(
    tiles: np.ndarray, heads: Sequence[str], blocks: int, title: str, caption: str
) -> np.ndarray:
    num, columns, height, width = tiles.shape[:4]
    rows = -(-num // blocks)
    block_width = columns * (width + _GAP) - _GAP
    full = 2 * _MARGIN + blocks * block_width + (blocks - 1) * 4 * _GAP
    size = max(11, min(18, width // 9))
    title_lines = canvas.wrap(title, size + 5, full - 2 * _MARGIN)
    head_lines = [canvas.wrap(head, size, width) for head in heads]
    caption_lines = canvas.wrap(caption, size, full - 2 * _MARGIN)
    line = size + 6
    top = _MARGIN + len(title_lines) * (line + 8)
    body = top + max(len(lines) for lines in head_lines) * line + 4
    bottom = body + rows * (height + _GAP) + (4 + len(caption_lines) * line if caption else 0)
    image, draw = canvas.blank(full, bottom + _MARGIN - _GAP)

    for number, text in enumerate(title_lines):
        place = (_MARGIN, _MARGIN + number * (line + 8) - 4)
        draw.text(place, text, canvas.INK, canvas.font(size + 5))
    for number, text in enumerate(caption_lines):
        place = (_MARGIN, body + rows * (height + _GAP) + 4 + number * line)
        draw.text(place, text, canvas.SOFT_INK, canvas.font(size))
    sheet = np.array(image)
    return _fill(sheet, tiles, head_lines, (rows, blocks), (top, body), size)


def _fill(
    sheet: np.ndarray,
    tiles: np.ndarray,
    head_lines: Sequence[Sequence[str]],
    layout: tuple[int, int],
    tops: tuple[int, int],
    size: int,
) -> np.ndarray:
    """Puts heads and tiles on the sheet; images run down the first block, then the next."""
    from PIL import Image, ImageDraw

    num, columns, height, width = tiles.shape[:4]
    step, line = columns * (width + _GAP) + 3 * _GAP, size + 6
    for index in range(num):
        block, row = divmod(index, layout[0])
        y = tops[1] + row * (height + _GAP)
        for column in range(columns):
            x = _MARGIN + block * step + column * (width + _GAP)
            sheet[y : y + height, x : x + width] = tiles[index, column]
    image = Image.fromarray(sheet)
    draw = ImageDraw.Draw(image)
    for block in range(-(-num // layout[0])):
        for column, lines in enumerate(head_lines):
            x = _MARGIN + block * step + column * (width + _GAP)
            for number, text in enumerate(lines):
                place = (x, tops[0] + number * line)
                draw.text(place, text, canvas.SOFT_INK, canvas.font(size))
    return np.array(image)


def coverage_map(
    frequency: np.ndarray, *, num_masks: int | None = None, title: str = "How often is it hidden?"
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
    """
    frequency = np.asarray(frequency, np.float64)
    low, high = _span(frequency)
    cell = max(4, 320 // max(frequency.shape))
    cells = canvas.enlarge(canvas.colour((frequency - low) / (high - low)), cell)
    height, width = cells.shape[:2]
    over = f" over {num_masks:,} masks" if num_masks else ""
    caption = (
        f"Hidden share per patch position{over}: mean {frequency.mean():.3f},"
        f" lowest {frequency.min():.3f}, highest {frequency.max():.3f}"
    )
    full = max(width + 110, 420)
    captions = canvas.wrap(caption, 14, full - 2 * _MARGIN)
    top = _MARGIN + 30
    image, draw = canvas.blank(full, top + height + 14 + 20 * len(captions) + _MARGIN)
    draw.text((_MARGIN, _MARGIN - 4), title, canvas.INK, canvas.font(19))
    for number, text in enumerate(captions):
        draw.text((_MARGIN, top + height + 10 + 20 * number), text, canvas.SOFT_INK, canvas.font(14))
    if cell >= 36:
        _write_values(draw, frequency, (low, high), cell, top)
    picture = np.array(image)
    picture[top : top + height, _MARGIN : _MARGIN + width] = _labelled(
        cells, picture[top : top + height, _MARGIN : _MARGIN + width]
    )
    return _with_scale(picture, (low, high), (top, height), _MARGIN + width + 14)


def _span(frequency: np.ndarray) -> tuple[float, float]:
    low, high = float(frequency.min()), float(frequency.max())
    if high - low < 0.2:
        middle = min(max((low + high) / 2, 0.1), 0.9)
        low, high = middle - 0.1, middle + 0.1
    return low, high
