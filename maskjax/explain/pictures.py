"""What explanations look like, and their tables."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from maskjax.observe import canvas

TILE, GAP = 224, 12
FOR, AGAINST = np.array((214, 96, 24), float), np.array((44, 82, 160), float)


def heat(image: np.ndarray, segments: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3]: the image in grey under the segments' coefficients.

    Orange speaks for the class, blue against it; the strongest segment has full colour.
    """
    grey = canvas.to_rgb(image.astype(np.float32) / 255).mean(-1, keepdims=True)
    strength = coefficients / max(np.abs(coefficients).max(), 1e-12)
    value = strength[segments][..., None]
    colour = np.where(value > 0, FOR, AGAINST)
    return np.rint(grey + (colour - grey) * 0.85 * np.abs(value)).clip(0, 255).astype(np.uint8)


def lime_sheet(
    image: np.ndarray,
    segments: np.ndarray,
    found: Mapping[str, np.ndarray],
    *,
    title: str,
) -> np.ndarray:
    """The image with its segments, and the coefficients of each way of hiding beside it.

    Args:
        image: uint8[H, W, C].
        segments: int[H, W].
        found: {name: float[S]}.
        title: a line above.

    Returns:
        uint8[h, w, 3].
    """
    from PIL import Image

    factor = max(1, -(-TILE // max(segments.shape)))
    shown = canvas.enlarge(canvas.to_rgb(image.astype(np.float32) / 255), factor)
    parts = canvas.enlarge(segments, factor)
    edge = np.zeros(parts.shape, bool)
    edge[:, 1:] |= parts[:, 1:] != parts[:, :-1]
    edge[1:] |= parts[1:] != parts[:-1]
    tiles = [("image", shown), ("segments", np.where(edge[..., None], np.uint8(255), shown))]
    maps = ((name, heat(image, segments, values)) for name, values in found.items())
    tiles += [(name, canvas.enlarge(tile, factor)) for name, tile in maps]
    height, width = parts.shape
    caption = (
        "Orange segments speak for the class, blue ones against it (LIME's linear model); each"
        " tile's strongest segment has full colour."
    )
    total = len(tiles) * (width + GAP) + GAP
    head, foot = (canvas.TextBlock(text, 16, total - 2 * GAP) for text in (title, caption))
    top = GAP + head.height + 24
    sheet, draw = canvas.blank(total, top + height + GAP + foot.height + GAP)
    head.draw(draw, (GAP, GAP), canvas.INK)
    for i, (name, tile) in enumerate(tiles):
        x = GAP + i * (width + GAP)
        canvas.TextBlock(name, 15, width).draw(draw, (x, top - 24), canvas.SOFT_INK)
        sheet.paste(Image.fromarray(tile), (x, top))
    foot.draw(draw, (GAP, top + height + GAP), canvas.SOFT_INK)
    return np.array(sheet)


def lime_rows(
    segments: np.ndarray, found: Mapping[str, np.ndarray]
) -> list[dict[str, float | int]]:
    """A row a segment: number, pixels, centre, and its coefficient by each way of hiding."""
    rows = []
    for number in range(int(segments.max()) + 1):
        ys, xs = np.nonzero(segments == number)
        row = {"segment": number, "pixels": len(ys)}
        row |= {"row": round(float(ys.mean()), 1), "column": round(float(xs.mean()), 1)}
        rows.append(row | {name: float(values[number]) for name, values in found.items()})
    return rows


def to_csv(rows: Sequence[Mapping[str, float | int | str]]) -> str:
    """Rows of the same keys as CSV with a header; floats have six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def to_table(rows: Sequence[Mapping[str, float | int | str]]) -> str:
    """The same as aligned text; floats have three decimals."""
    cells = [list(rows[0])]
    cells += [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
