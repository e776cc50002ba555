"""Line charts as SVG text, drawn here so that the report needs no plotting library and no network.

Colours are CSS variables of the page (`--line`, `--soft`), so that a chart follows light and dark.
"""

import html
import itertools
import math
from collections.abc import Mapping, Sequence

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 76, 26, 36, 50
_MOST_POINTS = 600


def line_chart(
    x: Sequence[float],
    y: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    height: int = 280,
    smooth: bool = False,
) -> str:
    """One curve with axes, ticks and labels as an <svg> element.

    Args:
        x: ascending numbers, such as steps.
        y: finite numbers, as many as x, at least one.
        x_label: below the horizontal axis.
        y_label: above the vertical axis.
        height: in units of a picture 720 wide; it scales with the page.
        smooth: draws the values faintly, and over them the mean of their neighbours (a twentieth
            of all points).

    Raises:
        ValueError: if x and y differ in length or are empty.
    """
    if len(x) != len(y) or not len(x):
        raise ValueError(f"need as many x as y and at least one, got {len(x)} and {len(y)}")
    smoothed = centred_mean(y, len(y) // 40) if smooth else list(y)
    x, y, smoothed = _thin(x), _thin(y), _thin(smoothed)
    frame = _Frame(axis_ticks(min(x), max(x), 6), axis_ticks(min(y), max(y), 5), height)
    faint = frame.path(x, y, "faint") if smooth else ""
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" class="chart"'
        f' aria-label="{html.escape(y_label)} over {html.escape(x_label)}">'
        f"{frame.axes(x_label, y_label)}{faint}{frame.path(x, smoothed, 'curve')}</svg>"
    )


def points_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    height: int = 280,
) -> str:
    """Several series of few points, joined by lines, with their names below, as HTML.

    Args:
        series: {name: [(x, y), ...]}, x ascending, finite; at least one point.
        x_label, y_label, height: as of `line_chart`.
    """
    every = [point for points in series.values() for point in points]
    low, high = ([f(values) for values in zip(*every, strict=True)] for f in (min, max))
    x_ticks, y_ticks = (axis_ticks(a, b, n) for a, b, n in zip(low, high, (6, 5), strict=True))
    frame = _Frame(x_ticks, y_ticks, height)
    marks, names = [], []
    for number, (name, points) in enumerate(series.items()):
        # The golden angle: neighbours in the list have colours far from each other.
        colour = f"hsl({number * 137.5 % 360:.0f} 65% 50%)"
        places = [(frame.x(x), frame.y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        marks += [f'<circle fill="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places]
        names.append(f'<svg width="12" height="12"><circle fill="{colour}" cx="6" cy="6" r="5"/>')
        names.append(f"</svg> {html.escape(name)}<br>")
    label = f"{html.escape(y_label)} over {html.escape(x_label)}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" class="chart" aria-label="{label}">'
        f"{frame.axes(x_label, y_label)}{''.join(marks)}</svg><figcaption>{''.join(names)}"
        "</figcaption>"
    )


def centred_mean(values: Sequence[float], half: int) -> list[float]:
    """Mean over up to `half` neighbours on either side, as many on both: it does not lag behind."""
    sums = [0.0, *itertools.accumulate(values)]
    means = []
    for index in range(len(values)):
        reach = min(half, index, len(values) - 1 - index)
        means.append((sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))
    return means


def axis_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that enclose low and high."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def format_tick(value: float) -> str:
    """A tick's number: "0", "0.35", "2,500", "1.5e-04"."""
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"


def _thin(values: Sequence[float]) -> list[float]:
    """At most `_MOST_POINTS` of the values, evenly taken, the last one included."""
    stride = -(-len(values) // _MOST_POINTS)
    return [float(value) for value in values[::-1][::stride][::-1]]


class _Frame:
    """From data to the units of the picture."""

    def __init__(self, x_ticks: list[float], y_ticks: list[float], height: int):
        self._x_ticks, self._y_ticks, self._height = x_ticks, y_ticks, height

    def x(self, value: float) -> float:
        low, high = self._x_ticks[0], self._x_ticks[-1]
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y_ticks[0], self._y_ticks[-1]
        return (
            self._height - _BOTTOM - (value - low) / (high - low) * (self._height - _BOTTOM - _TOP)
        )

    def path(self, x: Sequence[float], y: Sequence[float], kind: str) -> str:
        points = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(x, y, strict=True))
        if len(x) == 1:
            return f'<circle class="{kind}" cx="{self.x(x[0]):.1f}" cy="{self.y(y[0]):.1f}" r="3"/>'
        return f'<polyline class="{kind}" points="{points}"/>'

    def axes(self, x_label: str, y_label: str) -> str:
        bottom, right = self._height - _BOTTOM, _WIDTH - _RIGHT
        parts = []
        for value in self._y_ticks:
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(_text(_LEFT - 8, y + 4, format_tick(value), "end"))
        parts += [_text(self.x(v), bottom + 20, format_tick(v), "middle") for v in self._x_ticks]
        parts.append(_text((_LEFT + right) / 2, self._height - 6, x_label, "middle"))
        parts.append(_text(4, 18, y_label, "start"))
        return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(text)}</text>"
