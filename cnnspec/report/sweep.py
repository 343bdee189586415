"""One HTML file about a sweep: each trial as a line across the values that vary, and the figure over each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log
from typing import Any

from cnnspec.report.chart import DECADES, shown
from cnnspec.report.template import rendered
from cnnspec.spec.model import written
from cnnspec.spec.sweep import Choices, Range, Sweep
from cnnspec.sweep.table import best_of, importance, rows, sorted_trials
from cnnspec.sweep.trials import Trial

WIDTH, HEIGHT, SLICE = 1000, 300, 320  # sizes of the diagram of lines, and width of a slice
LEFT, RIGHT, TOP, BOTTOM = 70, 70, 34, 34
LONGEST = 26  # characters of a path: a longer one keeps its end, by which paths differ
LONG = 12  # characters of a choice: a longer one keeps its beginning
LETTER = 7  # width of a character
MARKS = 6  # most choices written beside an axis
FAINTEST = 0.15  # opacity of the line of the worst trial


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis for one value: positions from 0 to 1, and the marks beside it."""

    domain: Choices | Range

    def place(self, value: Any) -> float:
        if isinstance(self.domain, Choices):
            known = [repr(choice) for choice in self.domain.values]
            return (known.index(repr(value)) + 0.5) / len(known)
        return _part(self.domain, float(value))

    @property
    def step(self) -> int:
        """The distance of choices that are written beside the axis: of many, an even selection."""
        return -(-len(self.domain.values) // MARKS) if isinstance(self.domain, Choices) else 1

    def marks(self, longest: int) -> list[tuple[float, str]]:
        """Return positions and texts; texts of choices have at most `longest` characters."""
        if isinstance(self.domain, Choices):
            labels = _choice_labels(self.domain.values, max(2, min(longest, LONG)))
            return [(self.place(c), label) for c, label in zip(self.domain.values, labels, strict=True)][:: self.step]
        low, high = self.domain.low, self.domain.high
        middle = (low * high) ** 0.5 if self.domain.logarithmic else (low + high) / 2
        return [(_part(self.domain, value), shown(value)) for value in (low, middle, high)]


def _choice_labels(choices: Sequence[Any], longest: int) -> list[str]:
    """Return a short text for each choice, with its number in the list in front if texts would be alike."""
    texts = [_without_keys(choice) for choice in choices]
    if len({_shortened(text, longest) for text in texts}) < len(texts):
        texts = [f"{number}: {text}" for number, text in enumerate(texts, 1)]
    return [_shortened(text, longest) for text in texts]


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _without_keys(value: Any) -> str:
    """Return a value as text, of mappings only what differs most: `adam 0.01` for {type: adam, learning_rate: 0.01}."""
    if isinstance(value, Mapping):
        return " ".join(_without_keys(part) for part in value.values())
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return ", ".join(_without_keys(part) for part in value)
    return written(value)


def _part(domain: Range, value: float) -> float:
    low, high = domain.low, domain.high
    if domain.logarithmic:
        return log(value / low) / log(high / low)
    return (value - low) / (high - low)


def sweep_page(name: str, sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Return the page of a sweep whose trials have ended."""
    scored = [trial for trial in sorted_trials(sweep, trials) if trial.mean(sweep.metric) is not None]
    best, failed = best_of(sweep, trials), len(trials) - len(scored)
    axes = {path: _Axis(domain) for path, domain in sweep.values.items()}
    shares = importance(sweep, trials)
    return rendered(
        "sweep.html",
        title=f"Sweep of {name}",
        metric=sweep.metric,
        halved=sweep.halving is not None,
        verdict=_verdict(sweep, trials, best, failed),
        paths=list(sweep.values),
        lines=_lines(sweep, axes, scored),
        slices=[(path, shares[path], _slice(sweep, path, axis, scored)) for path, axis in axes.items()],
        rows=[
            (
                row["trial"],
                [written(row["values"][path]) for path in sweep.values],
                f"{row['epochs']:g}",
                _row_text(row),
            )
            for row in rows(sweep, trials)
        ],
    )


def _verdict(sweep: Sweep, trials: Sequence[Trial], best: Trial | None, failed: int) -> str:
    sentence = f"{len(trials)} trials by {sweep.method}" + (f", of which {failed} failed" if failed else "")
    mean = None if best is None else best.mean(sweep.metric)
    if best is None or mean is None:
        return f"{sentence}."
    return f"{sentence}. The best is trial {best.number}, with {sweep.metric} {shown(mean)} on the validation images."


def _row_text(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return str(row["error"])
    return shown(row["mean"]) + ("" if row["spread"] is None else f" ± {shown(row['spread'])}")


def _figures(sweep: Sweep, trials: Sequence[Trial]) -> tuple[list[float], Range]:
    """Return the figure of each trial, and their range, directed so that better figures are higher up."""
    values = [mean for trial in trials if (mean := trial.mean(sweep.metric)) is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.0 if high > low else abs(high) or 1.0
    low, high = low - margin, high + margin
    logarithmic = low > 0 and high / low >= DECADES
    return values, Range(high, low, logarithmic) if sweep.falls else Range(low, high, logarithmic)


def _lines(sweep: Sweep, axes: dict[str, _Axis], trials: Sequence[Trial]) -> str:
    """Return parallel coordinates: an axis for each value and the figure, a line for each trial, the best in colour."""
    values, span = _figures(sweep, trials)
    every = {**axes, sweep.metric: _Axis(span)}
    gap = (WIDTH - LEFT - RIGHT) / (len(every) - 1)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="a line for each trial across its values">']
    for number in reversed(range(len(trials))):
        trial, figure = trials[number], values[number]
        places = [*(axis.place(trial.point[path]) for path, axis in axes.items()), _part(span, figure)]
        points = "L".join(f"{LEFT + n * gap:.1f} {_y_of(place, HEIGHT):.1f}" for n, place in enumerate(places))
        faint = 1 - (1 - FAINTEST) * number / max(len(trials) - 1, 1)
        label = escape(_point_text(sweep, trial, figure))
        colour = "c1" if number == 0 else "c0"
        parts.append(f'<path class="line {colour}" opacity="{faint:.2f}" d="M{points}"><title>{label}</title></path>')
    for n, (path, axis) in enumerate(every.items()):
        x = LEFT + n * gap
        parts.append(f'<path class="axis" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        across = 12 if n % 2 == 0 else HEIGHT - 4  # neighbours do not cover each other
        at, anchor = (0.0, "start") if n == 0 else (WIDTH, "end") if n == len(axes) else (x, "middle")
        parts.append(f'<text x="{at:.1f}" y="{across}" text-anchor="{anchor}">{escape(_short(path))}</text>')
        for place, mark in axis.marks(int(gap / LETTER)):
            y = _y_of(place, HEIGHT) + 4
            parts.append(f'<text class="mark" x="{x + 5:.1f}" y="{y:.1f}">{escape(mark)}</text>')
    return "".join([*parts, "</svg>"])


def _slice(sweep: Sweep, path: str, axis: _Axis, trials: Sequence[Trial]) -> str:
    """Return a diagram of the figure over one value, with a dot for each trial."""
    values, span = _figures(sweep, trials)
    width, height = SLICE - LEFT - 14, 220
    parts = [f'<svg viewBox="0 0 {SLICE} {height}" role="img" aria-label="{escape(sweep.metric)} over {escape(path)}">']
    for place, mark in _Axis(span).marks(LONG):
        y = _y_of(place, height)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{SLICE - 14}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(mark)}</text>')
    longest = int(width / LETTER / min(MARKS, len(axis.domain.values))) if isinstance(axis.domain, Choices) else LONG
    for place, mark in axis.marks(longest):
        at, anchor = LEFT + place * width, "end" if place == 1 else "start" if place == 0 else "middle"
        parts.append(f'<text x="{at:.1f}" y="{height - BOTTOM + 18}" text-anchor="{anchor}">{escape(mark)}</text>')
    for number in reversed(range(len(trials))):
        trial, figure = trials[number], values[number]
        x, y = LEFT + axis.place(trial.point[path]) * width, _y_of(_part(span, figure), height)
        label = escape(_point_text(sweep, trial, figure))
        colour = "c1" if number == 0 else "c0"
        parts.append(f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{label}</title></circle>')
    return "".join([*parts, "</svg>"])


def _y_of(place: float, height: int) -> float:
    return height - BOTTOM - place * (height - TOP - BOTTOM)


def _point_text(sweep: Sweep, trial: Trial, figure: float) -> str:
    values = ", ".join(f"{path} {written(value)}" for path, value in trial.point.items())
    return f"trial {trial.number}: {sweep.metric} {shown(figure)}; {values}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"
