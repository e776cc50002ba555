"""Pictures of what a model does: reconstruction sheets as uint8 arrays, and PNG files.

numpy and Pillow only, so that pictures can be made anywhere from saved arrays.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from maskjax.errors import UserError
from maskjax.observe import canvas
from maskjax.observe.files import write_atomic

# What a hidden patch looks like in the masked column.
HIDDEN_COLOUR = (203, 208, 214)
_TILE = 140  # small images are enlarged by a whole factor until their longer side has this
_GAP, _MARGIN = 6, 18
_TRUE_STATISTICS = (
    "Patch normalisation was undone with the true mean and standard deviation of each patch, which"
    " the model did not see: it predicts the pattern in a patch, not its brightness and contrast."
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
    shown, share = canvas.to_rgb(original), f"{round(100 * float(np.mean(hidden)))}% hidden"
    columns = {
        "original": shown,
        f"masked, {share}": cover(shown, covered),
        "prediction": canvas.to_rgb(prediction),
        "prediction + visible": canvas.to_rgb(paste(original, prediction, covered)),
    }
    notes = [_TRUE_STATISTICS if patch_normalized else "", canvas.channels_note(original.shape[-1])]
    return sheet(columns, title=title, caption=" ".join(filter(None, notes)), blocks=blocks)


def cover(shown: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Pictures uint8[B, H, W, 3], in the colour of hidden patches where covered bool[B, H, W]."""
    return np.where(covered[..., None], np.uint8(HIDDEN_COLOUR), shown)


def sheet(
    columns: Mapping[str, np.ndarray],
    *,
    title: str = "",
    caption: str = "",
    blocks: int | None = None,
) -> np.ndarray:
    """Pictures of the same images beside each other, small ones enlarged, as uint8[h, w, 3].

    Args:
        columns: {heading: uint8[B, H, W, 3]}.
        title: a line above.
        caption: text below.
        blocks: groups of these columns beside each other; None picks by shape.
    """
    tiles = np.stack(list(columns.values()), 1)
    num, (height, width) = len(tiles), tiles.shape[2:4]
    factor = max(1, -(-_TILE // max(height, width)))
    tiles = tiles.repeat(factor, 2).repeat(factor, 3)
    if blocks is None:
        blocks = 2 if num > 4 and width < 2 * height else 1
    return _sheet(tiles, tuple(columns), min(blocks, num), title, caption)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where things are on a sheet, in pixels; images run down the first block, then the next."""

    rows: int
    blocks: int
    columns: int
    tile: tuple[int, int]  # (height, width)
    font: int

    @property
    def block_width(self) -> int:
        return self.columns * (self.tile[1] + _GAP) - _GAP

    @property
    def width(self) -> int:
        return self.blocks * (self.block_width + 4 * _GAP) - 4 * _GAP + 2 * _MARGIN

    @property
    def height(self) -> int:
        """Of all tiles."""
        return self.rows * (self.tile[0] + _GAP) - _GAP

    def column(self, block: int, column: int) -> int:
        return _MARGIN + block * (self.block_width + 4 * _GAP) + column * (self.tile[1] + _GAP)

    def place(self, index: int, column: int) -> tuple[int, int]:
        """(x, y) of a tile, y from the first row."""
        block, row = divmod(index, self.rows)
        return self.column(block, column), row * (self.tile[0] + _GAP)


def _sheet(
    tiles: np.ndarray, heads: Sequence[str], blocks: int, title: str, caption: str
) -> np.ndarray:
    from PIL import Image

    num, columns, height, width = tiles.shape[:4]
    size = max(11, min(18, width // 10))
    layout = _Layout(-(-num // blocks), blocks, columns, (height, width), size)
    text_width = layout.width - 2 * _MARGIN
    titles = canvas.TextBlock(title, size + 6, text_width)
    captions = canvas.TextBlock(caption, size, text_width)
    head_blocks = [canvas.TextBlock(head, size, width) for head in heads]
    head_top = _MARGIN + titles.height
    top = head_top + max(block.height for block in head_blocks)
    below = top + layout.height + _GAP
    image, draw = canvas.blank(layout.width, below + captions.height + _MARGIN - _GAP)
    titles.draw(draw, (_MARGIN, _MARGIN - 4), canvas.INK)
    captions.draw(draw, (_MARGIN, below), canvas.SOFT_INK)
    for block in range(blocks):
        for column, head in enumerate(head_blocks):
            head.draw(draw, (layout.column(block, column), head_top), canvas.SOFT_INK)
    for index in range(num):
        for column in range(columns):
            x, y = layout.place(index, column)
            image.paste(Image.fromarray(tiles[index, column]), (x, top + y))
    return np.array(image)


def save_png(path: str | os.PathLike, image: np.ndarray) -> pathlib.Path:
    """Writes uint8[H, W, 3 or 1] as a PNG file, atomically; folders are made."""
    return write_atomic(path, png_bytes(image))


def png_bytes(image: np.ndarray) -> bytes:
    """uint8[H, W, 3 or 1] as the bytes of a PNG file.

    Raises:
        UserError: for another type or shape.
    """
    from PIL import Image

    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise UserError(f"a picture must be uint8[H, W, 3 or 1], got {image.dtype}{image.shape}")
    buffer = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()
