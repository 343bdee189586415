"""Line charts as SVG for a page, coloured by its style sheet, with their values for display under the pointer.

They are drawn here and not by a library in the browser, so that they print, show without scripts, and stay small.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 10, 34  # margins around the diagram
MOST = 300  # most points drawn of a line; of more, the extremes of each group
DECADES = 8.0  # ratio of greatest and least value from which an axis is logarithmic

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, the numbers of its colour and dashes in the style sheet, and its points by rising x."""

    name: str
    colour: int
    dash: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A diagram: `svg` is markup, `numbers` are JSON for the script, `reading` shows the values at the greatest x."""

    title: str
    svg: str
    numbers: str
    reading: str
    lines: tuple[Line, ...]


def line_of(rows: Sequence[Mapping[str, Any]], metric: str, name: str, colour: int, dash: int) -> Line:
    """Return the line of a metric over the epochs; missing values and values that are not finite are left out."""
    found = [(float(row["epoch"]), row.get(metric)) for row in rows]
    points = tuple((x, float(y)) for x, y in found if isinstance(y, (int, float)) and math.isfinite(y))
    return Line(name, colour, dash, points)


def chart(title: str, lines: Sequence[Line], *, percent: bool = False) -> Chart | None:
    """Draw lines over the epochs on one pair of axes; None if no line has a point."""
    drawn_lines = tuple(line for line in lines if line.points)
    if not drawn_lines:
        return None
    xs, ys = zip(*(point for line in drawn_lines for point in line.points), strict=True)
    logarithmic = not percent and min(ys) > 0 and max(ys) / min(ys) >= DECADES
    left, right = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    low, high = _range(min(ys), max(ys), logarithmic=logarithmic)

    def place(x: float, y: float) -> Point:
        height = math.log(y / low) / math.log(high / low) if logarithmic else (y - low) / (high - low)
        return LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - height * (
            HEIGHT - TOP - BOTTOM
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} by epoch">']
    for y in _ticks_of(low, high, logarithmic=logarithmic):
        across = place(left, y)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {across:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{across + 4:.1f}" text-anchor="end">{shown(y, percent=percent)}</text>')
    for x in _whole_ticks(min(xs), max(xs)):
        at = place(x, low)[0]
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">epoch</text>')
    for line in drawn_lines:
        places = [place(*point) for point in _thinned(line.points)]
        style = f'class="line c{line.colour} d{line.dash}"'
        if len(places) > 1:
            parts.append(f'<path {style} d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>')
        if len(places) <= 30:
            parts += [f'<circle class="dot c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
    parts.append(f'<path class="cursor" d="M0 {TOP}V{HEIGHT - BOTTOM}" visibility="hidden"/></svg>')
    numbers = {
        "x": [left, right],
        "box": [LEFT, WIDTH - RIGHT, WIDTH],
        "lines": [
            {"name": line.name, "points": [[x, shown(y, percent=percent)] for x, y in line.points]}
            for line in drawn_lines
        ],
    }
    last = max(xs)
    values = [(line.name, dict(line.points).get(last)) for line in drawn_lines]
    values_text = ", ".join(f"{name} {shown(y, percent=percent)}" for name, y in values if y is not None)
    return Chart(title, "".join(parts), json.dumps(numbers), f"epoch {last:g}: {values_text}", drawn_lines)


def shown(value: float, *, percent: bool = False) -> str:
    """Return a value as axes and tables show it."""
    if percent:
        return f"{100 * value:.4g}%"
    return f"{value:.4g}" if value == 0 or 1e-4 <= abs(value) < 1e5 else f"{value:.2e}".replace("e-0", "e-")


def _range(low: float, high: float, *, logarithmic: bool) -> Point:
    if logarithmic:
        return low / 1.15, high * 1.15
    margin = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks_of(low: float, high: float, *, logarithmic: bool) -> Iterator[float]:
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
        yield from (value for d in decades for f in factors if low <= (value := f * 10.0**d) <= high)
        return
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(f * unit for f in (1, 2, 5, 10) if f * unit >= rough)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(number * step, 12)


def _whole_ticks(low: float, high: float) -> Iterator[int]:
    span = max(high - low, 1)
    unit = 10 ** max(0, math.floor(math.log10(span / 6)))
    step = next(f * unit for f in (1, 2, 5, 10) if f * unit >= span / 6)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield number * step


def _thinned(points: Sequence[Point]) -> list[Point]:
    if len(points) <= MOST:
        return list(points)
    size = math.ceil(2 * len(points) / MOST)
    points_left = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        points_left += sorted({min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])})
    return points_left
