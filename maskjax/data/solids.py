"""Made-up solids as triangles float64[F, 3, 3], z upwards: simple ones and a little furniture."""

from collections.abc import Callable, Sequence

import numpy as np

Triangles = np.ndarray
_CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
_SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_HALVES = [half for p, q, r, s in _SIDES for half in ((p, q, r), (p, r, s))]
_AROUND = 24  # corners of a circle


def box(low: Sequence[float], high: Sequence[float]) -> Triangles:
    """A box between two corners."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return low + _CORNERS[_HALVES] * (high - low)


def revolved(radius: Sequence[float], height: Sequence[float]) -> Triangles:
    """What a line of points (radius, height) draws that turns about the z axis."""
    angle = np.linspace(0, 2 * np.pi, _AROUND + 1)
    radius, height = (np.asarray(x, np.float64)[:, None] for x in (radius, height))
    rings = np.stack([radius * np.cos(angle), radius * np.sin(angle), height + 0 * angle], -1)
    a, b, c, d = rings[:-1, :-1], rings[:-1, 1:], rings[1:, :-1], rings[1:, 1:]
    return np.concatenate([np.stack(t, 2).reshape(-1, 3, 3) for t in ((a, b, c), (b, d, c))])


def legs(width: float, depth: float, height: float, thick: float) -> Triangles:
    """Four legs from z = 0 to `height`, at the corners of a rectangle about the z axis."""
    x, y = width / 2 - thick, depth / 2 - thick
    corners = [(i * x, j * y) for i in (-1, 1) for j in (-1, 1)]
    half = thick / 2
    return np.concatenate(
        [box((x - half, y - half, 0), (x + half, y + half, height)) for x, y in corners]
    )


def ball(rng: np.random.Generator) -> Triangles:
    """An egg."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
    return revolved(np.cos(angle), rng.uniform(0.8, 1.25) * np.sin(angle))


def block(rng: np.random.Generator) -> Triangles:
    """A box."""
    return box((0, 0, 0), rng.uniform(0.5, 1, 3))


def cylinder(rng: np.random.Generator) -> Triangles:
    """With its lids."""
    height = rng.uniform(1, 3)
    return revolved((0, 1, 1, 0), (0, 0, height, height))


def cone(rng: np.random.Generator) -> Triangles:
    """With its floor."""
    return revolved((0, 1, 0), (0, 0, rng.uniform(1, 3)))


def ring(rng: np.random.Generator) -> Triangles:
    """A torus."""
    angle, thick = np.linspace(0, 2 * np.pi, 13), rng.uniform(0.15, 0.45)
    return revolved(1 + thick * np.cos(angle), thick * np.sin(angle))


def table(rng: np.random.Generator) -> Triangles:
    """A top and four legs."""
    width, depth, height = rng.uniform((1, 0.6, 0.5), (2, 1, 1))
    top = box((-width / 2, -depth / 2, height), (width / 2, depth / 2, height + 0.06))
    return np.concatenate([top, legs(width, depth, height, rng.uniform(0.05, 0.1))])


def chair(rng: np.random.Generator) -> Triangles:
    """A seat, four legs and a back."""
    width, depth, height, back = rng.uniform((0.4, 0.4, 0.35, 0.4), (0.6, 0.6, 0.55, 0.8))
    seat = box((-width / 2, -depth / 2, height), (width / 2, depth / 2, height + 0.05))
    rest = box((-width / 2, depth / 2 - 0.05, height), (width / 2, depth / 2, height + back))
    return np.concatenate([seat, rest, legs(width, depth, height, rng.uniform(0.04, 0.07))])


def lamp(rng: np.random.Generator) -> Triangles:
    """A foot, a pole and a shade."""
    height, foot, shade = rng.uniform((1, 0.2, 0.25), (1.8, 0.35, 0.5))
    pole = revolved((0, foot, foot, 0.03, 0.03), (0, 0, 0.05, 0.05, height))
    return np.concatenate([pole, revolved((shade, 0.12), (height - 0.1, height + 0.3))])


SOLIDS: dict[str, Callable[[np.random.Generator], Triangles]] = {
    make.__name__: make for make in (ball, block, cylinder, cone, ring, table, chair, lamp)
}
