"""Makes gallery.png, gallery_small.png and gallery.html."""

import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from maskjax.gallery import page, render, sheet
from maskjax.gallery.entries import ENTRIES
from maskjax.gallery.entry import Entry, sample
from maskjax.gallery.frequency import frequency
from maskjax.gallery.scene import Scene, make_scene
from maskjax.observe.files import write_atomic
from maskjax.observe.pictures import png_bytes

SHEET, SMALL, PAGE = "gallery.png", "gallery_small.png", "gallery.html"
RATIOS, NUM_SEEDS = (0.25, 0.4, 0.5, 0.6, 0.75, 0.9), 5


def build(
    folder: str | os.PathLike,
    image: np.ndarray | None = None,
    *,
    seed: int = 0,
    entries: Sequence[Entry] = ENTRIES,
    progress: Callable[[str], None] = lambda line: None,
) -> list[pathlib.Path]:
    """Draws everything and writes the three files; the same arguments give the same bytes.

    Args:
        folder: is made.
        image: uint8[H, W, 3]; None for the embedded photograph.
        seed: of the sheet, and the first on the page.
        entries: what is drawn.
        progress: is told a line for each entry.
    """
    scene, seeds = make_scene(image), range(seed, seed + NUM_SEEDS)
    cards, drawings, smalls = [], [], []
    for number, entry in enumerate(entries):
        progress(f"{number + 1} of {len(entries)}: {entry.title}")
        shares = (entry.ratio, *RATIOS)
        results = sample(entry, shares, scene, seeds)
        texts = [entry.text(share) for share in shares]
        rows = [
            [entry.show(result, scene, s) for s, result in zip(seeds, results[text], strict=True)]
            for text in texts
        ]
        small = _small(entry, results[texts[0]][0], scene)
        tile = render.tile(rows[0][0], scene, sheet.FULL.tile)
        about = (entry.family, entry.title, entry.source, entry.call(entry.ratio))
        cards.append(sheet.Card(*about, tile, small and small[0]))
        drawings.append(page.drawn(entry, rows, texts))
        smalls.append(small)
    text = page.page(entries, drawings, smalls, scene, RATIOS, seeds)
    contents = {
        SHEET: png_bytes(sheet.sheet(cards)),
        SMALL: few_colours(sheet.sheet(cards, sheet.COMPACT)),
        PAGE: text,
    }
    return [write_atomic(pathlib.Path(folder) / name, value) for name, value in contents.items()]


def few_colours(image: np.ndarray) -> bytes:
    """uint8[H, W, 3] -> a PNG file with a palette of 256 colours."""
    buffer = io.BytesIO()
    palette = Image.fromarray(image).quantize(
        256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
    )
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _small(entry: Entry, result: Any, scene: Scene) -> tuple[np.ndarray, str] | None:
    """The small picture beside an entry, and its caption."""
    if entry.matrix is not None:
        return render.matrix(entry.matrix(result)), "the whole matrix: queries down, keys across"
    if entry.hidden is None:
        return None
    share = frequency(entry, scene)
    low, high = (round(100 * value) for value in (share.min(), share.max()))
    range_ = f"{low}" if low == high else f"{low} to {high}"
    text = f"hidden in {range_} % of {entry.num_keys:,} keys, by place"
    return render.heat(share), text
