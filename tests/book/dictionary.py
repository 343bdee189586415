"""The tables of guide/words.md, made of the one table of words: `python -m tests.book` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cnnspec.spec.suggest import plural
from cnnspec.spec.words import ADVICE, KEYS, TYPES, VALUES

PAGE = Path(__file__).parents[2] / "cnnspec" / "guide" / "words.md"
BEGIN = "## Layers\n"
PLACES = {  # the headings of what is no word for word
    "layer": "Layers",
    "layer key": "Keys of layers",
    "spec key": "Keys of a spec",
    "train key": "Keys of `train`",
    "data key": "Keys of `data`",
    "optimizer key": "Keys of optimizers",
    "schedule key": "Keys of schedules",
    "loss key": "Keys of losses",
    "expect key": "Keys of `expect`",
    "optimizer": "Optimizers",
    "augmentation": "Augmentations",
    "initializer": "Initializers",
}


def tables() -> str:
    """All tables: types by kind, keys, values, and what has no counterpart."""
    parts = [_table(f"## {plural(kind).capitalize()}", ("here", "elsewhere"), _pairs(of)) for kind, of in TYPES.items()]
    parts.append(_table("## Keys", ("here", "elsewhere"), _pairs(KEYS)))
    values = [
        (f"`{key}: {word}`", f"`{key}: {own}`") for key, of in VALUES.items() if key != "*" for word, own in of.items()
    ]
    values += [(f"`{word}`", f"`{own}`") for word, own in VALUES["*"].items()]
    parts.append(_table("## Values", ("elsewhere", "here"), values))
    parts.append("## What has no counterpart\n\nInstead of a word for word, what to write.\n")
    for place, of in ADVICE.items():
        rows = [(f"`{word}`", text.replace("|", "\\|")) for word, text in of.items()]
        parts.append(_table(f"### {PLACES[place]}", ("elsewhere", "here"), rows))
    return "\n".join(parts)


def write() -> None:
    """Put the tables in their place on the page; what is above them stays."""
    above, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(above + tables(), encoding="utf-8")


def _pairs(of: dict[str, str]) -> Iterator[tuple[str, str]]:
    for own, words in of.items():
        yield f"`{own}`", ", ".join(f"`{word}`" for word in words.split())


def _table(heading: str, columns: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [heading, "", f"| {columns[0]} | {columns[1]} |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    return "\n".join([*lines, ""])
