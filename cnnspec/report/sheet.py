"""Pictures of images for people: a contact sheet, and maps that explain an answer.

ImportError where matplotlib, an extra, is missing; ValueError where a file's ending names no format.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.diagnostics import printable
from cnnspec.kernels.step import Array
from cnnspec.report.attribution import Attribution
from cnnspec.report.figure_file import save
from cnnspec.report.png import class_colours

TILE, LINE, GAP = 1.25, 0.15, 0.1  # inches: side of a picture, height of a line of text, between tiles
LETTERS = 20  # characters of a line under a picture; longer ones are cut in the middle
PANEL = 2.6  # inches: side of a picture that is explained
DOTS = 100  # pixels an inch


@dataclass(frozen=True, slots=True)
class Tile:
    """An image (c, h, w) or a class map (h, w), with lines of text under it; without an image, an empty place."""

    image: Array | None
    lines: tuple[str, ...] = ()


def draw_sheet(tiles: Sequence[Tile], path: Path, title: str, columns: int = 10) -> None:
    """Draw tiles row by row into a picture file."""
    columns = max(1, min(columns, len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    under = LINE * max((len(tile.lines) for tile in tiles), default=0)
    width, height = columns * (TILE + GAP) + GAP, rows * (TILE + under + GAP) + GAP + 2 * LINE
    figure = _figure(max(width, 3.0), height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, max(width, 3.0)), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(GAP, 2 * LINE, _cut(title, round(14 * max(width, 3.0))), fontsize=10, va="bottom", parse_math=False)
    for number, tile in enumerate(tiles):
        x = GAP + number % columns * (TILE + GAP)
        y = 2 * LINE + GAP + number // columns * (TILE + under + GAP)
        if tile.image is None:
            continue
        high, wide = tile.image.shape[-2:]
        scale = TILE / max(high, wide)
        left, top = x + (TILE - wide * scale) / 2, y + (TILE - high * scale) / 2
        axes.imshow(extent=(left, left + wide * scale, top + high * scale, top), **_imshow_arguments(tile.image))
        for line, words in enumerate(tile.lines):
            place = (x + TILE / 2, y + TILE + LINE * line + 0.02)
            axes.text(*place, _cut(words), fontsize=7, ha="center", va="top", parse_math=False)
    axes.set(xlim=(0, max(width, 3.0)), ylim=(height, 0))
    save(figure, path)


def draw_attribution(image: Array, answer: str, found: Attribution, path: Path) -> None:
    """Draw an image, and beside it each of the maps that explain the answer, into a picture file."""
    high, wide = image.shape[-2:]
    tall = PANEL * high / max(high, wide)
    figure = _figure(4 * (PANEL + 0.1) + 0.1, tall + 0.66)
    name = found.score.name
    panels: list[tuple[str, str, Array | None, str]] = [
        ("image", answer, None, ""),
        ("occlusion", f"red: covered, the score of {name} falls", found.occlusion, "RdBu_r"),
        ("saliency", f"bright: the score of {name} changes with it", found.saliency, "gray"),
        (f"Grad-CAM at {found.layer}", f"yellow: speaks for {name}", found.grad_cam, "inferno"),
    ]
    total = figure.get_size_inches()
    for number, (title, words, values, colours) in enumerate(panels):
        left, side = 0.1 + number * (PANEL + 0.1), (PANEL / total[0], tall / total[1])
        axes = figure.add_axes((left / total[0], 0.32 / total[1], *side), xlim=(0, wide), ylim=(high, 0))
        axes.set_axis_off()
        extent = (0, wide, high, 0)
        if colours != "gray":
            axes.imshow(
                extent=extent, **_imshow_arguments(image if values is None else image.mean(axis=0, keepdims=True))
            )
        if values is not None:
            most = float(np.abs(values).max()) or 1.0
            smooth: dict[str, Any] = {"interpolation": "bilinear" if colours == "inferno" else "nearest"}
            low = -most if colours == "RdBu_r" else 0.0
            alpha = 1.0 if colours == "gray" else 0.6
            axes.imshow(values, extent=extent, cmap=colours, vmin=low, vmax=most, alpha=alpha, **smooth)
        axes.set(xlim=(0, wide), ylim=(high, 0))
        middle = (left + PANEL / 2) / total[0]
        top = 1 - 0.1 / total[1]
        figure.text(middle, top, _cut(title, 34), fontsize=10, ha="center", va="top", parse_math=False)
        below = 0.26 / total[1]
        figure.text(middle, below, _cut(words, 46), fontsize=8, ha="center", va="top", parse_math=False)
    save(figure, path)


def _figure(width: float, height: float) -> Any:
    os.environ.pop("MPLBACKEND", None)  # names a window system: files need none, and a wrong name fails the import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _imshow_arguments(image: Array) -> dict[str, Any]:
    """Return the arguments of matplotlib's imshow for an image of bytes: three channels as colours, else grey."""
    if image.ndim == 2:
        return {"X": class_colours(image), "interpolation": "nearest"}
    if len(image) == 3:
        return {"X": image.transpose(1, 2, 0), "interpolation": "nearest"}
    return {"X": image.mean(axis=0), "cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}


def _cut(words: str, letters: int = LETTERS) -> str:
    """Return a printable line of limited length; the middle of a longer one is left out."""
    words = printable(words)
    if len(words) <= letters:
        return words
    end = letters // 2
    return f"{words[: letters - end - 1]}…{words[-end:]}"
