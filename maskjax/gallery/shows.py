"""From results of calls to pictures: a map of small numbers, and what each number looks like."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from maskjax.gallery.scene import COMPANIONS, FRAME_GRID, GRID, NUM_SEGMENTS, SMALL, Scene
from maskjax.observe.pictures import HIDDEN_COLOUR

Colour = tuple[int, int, int]
BLUE, ORANGE, GREEN, PURPLE = (31, 111, 196), (232, 126, 30), (46, 150, 90), (142, 84, 190)
ACCENTS = (BLUE, ORANGE, GREEN, PURPLE)
LEVELS = 14  # shades of a map of real numbers; with the marked token these fit four bits


class Style(NamedTuple):
    """What a number of the map looks like.

    Attributes:
        base: which picture of the scene is seen, "" for none (then nothing is drawn).
        colour: that is laid over it.
        opacity: of the colour, 0..1.
    """

    base: str = "photo"
    colour: Colour = HIDDEN_COLOUR
    opacity: float = 0.0


SEEN, HIDDEN = Style(), Style(opacity=1.0)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A map over a picture, or a picture itself.

    Attributes:
        cells: uint8[h, w], numbers of `styles`; or None.
        styles: at most 16.
        smooth: whether the cells are pixels, whose edges are smoothed when they are enlarged.
        image: uint8[H, W, 3] instead of a map.
    """

    cells: np.ndarray | None = None
    styles: tuple[Style, ...] = (SEEN, HIDDEN)
    smooth: bool = False
    image: np.ndarray | None = None


def tint(colour: Colour, opacity: float = 0.55, base: str = "photo") -> Style:
    """The picture under a coloured glass."""
    return Style(base, colour, opacity)


def parts(split: Any) -> np.ndarray:
    """int[N]: in which part of a TokenSplit each token is."""
    place = np.argsort(np.asarray(split.ids), kind="stable")
    return sum((place >= cut).astype(np.uint8) for cut in split.cuts)


def split(result: Any, scene: Scene, seed: int) -> Picture:
    """Visible tokens and grey ones."""
    return Picture(np.minimum(parts(result), 1).reshape(GRID))


def hidden(result: Any, scene: Scene, seed: int) -> Picture:
    """bool[196], True = grey."""
    return Picture(np.asarray(result, np.uint8).reshape(GRID))


def hole(result: Any, scene: Scene, seed: int) -> Picture:
    """bool[H, W], True = grey."""
    return Picture(np.asarray(result, np.uint8), smooth=True)


def dropped_in_turn(result: Any, scene: Scene, seed: int) -> Picture:
    """A split of several cuts: the later a token went, the less grey it is."""
    last = len(result.cuts)
    shades = [Style(opacity=0.45 + 0.55 * i / last) for i in range(1, last + 1)]
    return Picture(parts(result).reshape(GRID), (SEEN, *shades))


def revealed_in_turn(result: Any, scene: Scene, seed: int) -> Picture:
    """A pair of splits (before, after a step): what the step revealed is tinted."""
    before, after = (parts(one) > 0 for one in result)
    cells = np.where(after, 2, np.where(before, 1, 0)).astype(np.uint8)
    return Picture(cells.reshape(GRID), (SEEN, tint(GREEN, 0.4), HIDDEN))


def hidden_in_turn(result: Any, scene: Scene, seed: int) -> Picture:
    """A pair of hidden bool[196]: what the second hides beyond the first is tinted."""
    cells = np.where(result[0], 2, np.where(result[1], 1, 0)).astype(np.uint8)
    return Picture(cells.reshape(GRID), (SEEN, tint(ORANGE), HIDDEN))


def context_and_targets(result: Any, scene: Scene, seed: int) -> Picture:
    """The context as it is, targets under colours, the rest grey."""
    context, targets = result
    cells = np.full(math.prod(GRID), 5, np.uint8)
    cells[np.asarray(context.ids)[np.asarray(context.valid)]] = 0
    for i in reversed(range(len(targets.ids))):
        cells[np.asarray(targets.ids[i])[np.asarray(targets.valid[i])]] = 1 + i
    return Picture(cells.reshape(GRID), (SEEN, *map(tint, ACCENTS), HIDDEN))


def regions(result: Any, scene: Scene, seed: int) -> Picture:
    """Sets of tokens under colours, the rest fading."""
    tokens, _ = result
    cells = np.zeros(math.prod(GRID), np.uint8)
    for i in reversed(range(len(tokens.ids))):
        cells[np.asarray(tokens.ids[i])[np.asarray(tokens.valid[i])]] = 1 + i
    faded = Style(colour=(255, 255, 255), opacity=0.62)
    return Picture(cells.reshape(GRID), (faded, *(tint(c, 0.25) for c in ACCENTS)))


def film(result: Any, scene: Scene, seed: int) -> Picture:
    """A split over (4, 8, 8): four frames, left to right and down."""
    return _four(np.minimum(parts(result), 1).reshape(FRAME_GRID), "frames")


def modalities(result: Any, scene: Scene, seed: int) -> Picture:
    """A split over four modalities of 196 tokens."""
    return _four(np.minimum(parts(result), 1).reshape(4, *GRID), "views")


def _four(cells: np.ndarray, base: str) -> Picture:
    """uint8[4, h, w] -> a square of four maps with a cell between them."""
    _, h, w = cells.shape
    whole = np.full((2 * h + 1, 2 * w + 1), 2, np.uint8)
    for i, part in enumerate(cells):
        top, left = (h + 1) * (i // 2), (w + 1) * (i % 2)
        whole[top : top + h, left : left + w] = part
    return Picture(whole, (Style(base), Style(base, opacity=1.0), Style("")))


def mixed(result: Any, scene: Scene, seed: int) -> Picture:
    """owner int[196]: each token from the picture that owns it."""
    styles = tuple(Style(name) for name in ("photo", *COMPANIONS))
    return Picture(np.asarray(result, np.uint8).reshape(GRID), styles)


def segments(result: Any, scene: Scene, seed: int) -> Picture:
    """owner int[196] of regions, each under a colour of its own."""
    colours = [*ACCENTS, (200, 60, 80), (20, 150, 160), (150, 140, 40), (90, 100, 120)]
    styles = tuple(tint(c, 0.5) for c in colours[:NUM_SEGMENTS])
    return Picture(np.asarray(result, np.uint8).reshape(GRID), styles)


def query_of(seed: int) -> int:
    """Which token asks in the drawings of attention; another one for each seed."""
    return (7 * GRID[1] + 6 + 53 * seed) % math.prod(GRID)


def attention(result: Any, scene: Scene, seed: int) -> Picture:
    """A row of allow, gain or factor [196, 196]: what one token, in orange, sees of the picture."""
    query = query_of(seed)
    rows = np.asarray(result, np.float32)
    row = rows[min(query, len(rows) - 1)]
    scale = max(float(np.abs(row).max()), 1e-9)
    shade = np.rint((1 - np.clip(np.abs(row) / scale, 0, 1)) * (LEVELS - 1)).astype(np.uint8)
    shade[query] = LEVELS
    fading = [Style(opacity=0.94 * i / (LEVELS - 1)) for i in range(LEVELS)]
    return Picture(shade.reshape(GRID), (*fading, Style(colour=ORANGE, opacity=1.0)))


def change(result: Any, scene: Scene, seed: int) -> Picture:
    """(mask before, mask after): grey in both, blue where it was added, orange where taken."""
    before, after = (np.asarray(mask, bool) for mask in result)
    cells = np.where(before & after, 1, np.where(after, 2, np.where(before, 3, 0)))
    styles = (SEEN, HIDDEN, tint(BLUE, 0.8), tint(ORANGE, 0.8))
    return Picture(cells.astype(np.uint8), styles, smooth=True)


def image(result: Any, scene: Scene, seed: int) -> Picture:
    """x [1, H, W, 3] in 0..1, or (x, valid): the picture, grey where it is not valid."""
    x, valid = result if isinstance(result, tuple) else (result, None)
    pixels = np.rint(np.clip(np.asarray(x[0], np.float32), 0, 1) * 255).astype(np.uint8)
    if valid is not None:
        pixels = np.where(np.asarray(valid[0])[..., None], pixels, np.uint8(HIDDEN_COLOUR))
    if len(pixels) < SMALL:
        pixels = pixels.repeat(SMALL // len(pixels), 0).repeat(SMALL // len(pixels), 1)
    return Picture(image=pixels)


def patches(result: Any, scene: Scene, seed: int) -> Picture:
    """[784, 48], the picture in patches of 4 x 4 pixels."""
    side = SMALL // 4
    pixels = np.asarray(result).reshape(side, side, 4, 4, 3).transpose(0, 2, 1, 3, 4)
    return image(pixels.reshape(1, SMALL, SMALL, 3), scene, seed)
