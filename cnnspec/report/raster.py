"""A network's picture as PNG or PDF, drawn from `scene`'s SVG; ImportError where matplotlib, an extra, is missing.

It reads only the elements that `scene` writes: rectangles, texts, and paths of M, H, V, C that end in an arrow.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from typing import Any, Literal
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
SCALE = 2  # pixels of a PNG for one unit of the SVG
MOST_PIXELS = 64_000_000  # pixels of a PNG; a larger picture is scaled down
TEXTS = {"": (9.5, "#222222"), "name": (9.5, "#505050"), "shape": (8.6, "#4a6785"), "frame": (9.5, "#666666")}
ARROW = "#7a8794"
TIP = 6  # length of an arrow's tip

Point = tuple[float, float]


def as_picture(svg: str, kind: Literal["png", "pdf"]) -> bytes:
    """Return the content of the picture file, in the size of the SVG; a PNG has up to two pixels for each unit."""
    os.environ.pop("MPLBACKEND", None)  # names a window system: files need none, and a wrong name fails the import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path

    root = ElementTree.fromstring(svg)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    scale = min(SCALE, math.sqrt(MOST_PIXELS / (width * height)))
    figure = Figure(figsize=(width / 72, height / 72), dpi=72 * scale)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    codes = {"M": [Path.MOVETO], "H": [Path.LINETO], "V": [Path.LINETO], "C": [Path.CURVE4] * 3}
    for order, shape in enumerate(element for element in root if element.tag != f"{SVG}defs"):
        if shape.tag == f"{SVG}rect" and shape.get("x") is not None:
            x, y, w, h = (float(shape.get(key, 0)) for key in ("x", "y", "width", "height"))
            corners = f"round,pad=0,rounding_size={shape.get('rx', 0)}"
            opacity = float(shape.get("fill-opacity", 1))
            fill: dict[str, Any] = {
                "facecolor": "#f8f8f8" if opacity < 1 else shape.get("fill"),
                "edgecolor": shape.get("stroke"),
            }
            axes.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=corners, linewidth=1, zorder=order, **fill))
        elif shape.tag == f"{SVG}text":
            size, colour = TEXTS[shape.get("class", "")]
            place: dict[str, Any] = {
                "ha": "center" if shape.get("text-anchor") == "middle" else "left",
                "va": "baseline",
            }
            words: dict[str, Any] = {"fontsize": size, "color": colour, "parse_math": False, "zorder": order}
            axes.text(float(shape.get("x", 0)), float(shape.get("y", 0)), shape.text or "", **place, **words)
        elif shape.tag == f"{SVG}path":
            steps = list(_steps(shape.get("d", "")))
            points = [point for _, part in steps for point in part]
            path = Path(points, [code for letter, _ in steps for code in codes[letter]])
            axes.add_patch(PathPatch(path, fill=False, edgecolor=ARROW, linewidth=1.2, zorder=order))
            x, y = points[-1]
            tip = [(x, y + 1), (x - TIP / 2, y + 1 - TIP), (x + TIP / 2, y + 1 - TIP)]
            axes.add_patch(Polygon(tip, closed=True, facecolor=ARROW, linewidth=0, zorder=order))
    content = io.BytesIO()
    figure.savefig(content, format=kind)
    return content.getvalue()


def _steps(way: str) -> Iterator[tuple[str, list[Point]]]:
    """Yield a path's commands, each with the points that it adds."""
    x = y = 0.0
    for letter, numbers in re.findall(r"([MHVC])([^MHVC]*)", way):
        values = [float(number) for number in numbers.split()]
        if letter == "H":
            points = [(values[0], y)]
        elif letter == "V":
            points = [(x, values[0])]
        else:
            points = list(zip(values[::2], values[1::2], strict=True))
        x, y = points[-1]
        yield letter, points
