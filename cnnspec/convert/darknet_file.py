"""Reads Darknet's two files: sections of options in `.cfg`, and a sequence of numbers in `.weights`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from cnnspec.convert.refusal import ConversionError, Unsaid
from cnnspec.files import read_bounded
from cnnspec.kernels.step import Array

MOST_TEXT = 1 << 20  # bytes of a .cfg: the longest networks have 30,000
MOST_SECTIONS = 5_000
MOST_WEIGHTS = 2 << 30  # bytes of a .weights
TRUE = ("1", "true", "yes")


@dataclass(slots=True)
class Section:
    """One section of a .cfg, with its line and a record of the options that were read."""

    type: str
    line: int
    options: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def text(self, name: str, default: str = "") -> str:
        """Return an option as a text."""
        self.read.add(name)
        return self.options.get(name, default)

    def integer(self, name: str, default: int) -> int:
        """Return an option as a whole number; Unsaid if it is not one."""
        try:
            return int(self.text(name, str(default)))
        except ValueError:
            raise Unsaid(f"{name}={self.options[name]} is no whole number") from None

    def number(self, name: str, default: float) -> float:
        """Return an option as a number; Unsaid if it is not one."""
        try:
            number = float(self.text(name, repr(default)))
        except ValueError:
            number = float("nan")
        if not np.isfinite(number):
            raise Unsaid(f"{name}={self.options[name]} is no number")
        return number

    def integers(self, name: str) -> list[int]:
        """Return an option as a list of whole numbers; Unsaid if it is not one."""
        try:
            return [int(part) for part in self.text(name).split(",") if part]
        except ValueError:
            raise Unsaid(f"{name}={self.options[name]} is no list of whole numbers") from None

    def ignore(self, *names: str) -> None:
        """Mark options as read that change nothing at inference."""
        self.read.update(names)

    def unread(self) -> list[str]:
        """Return the names of options that were not read, except those with the value 0."""
        return [f"{name}={value}" for name, value in self.options.items() if name not in self.read and value != "0"]


def read_sections(path: Path) -> list[Section]:
    """Read a .cfg; ConversionError with all lines that are not valid, OSError if there is no file."""
    content = read_bounded(path, MOST_TEXT)
    sections: list[Section] = []
    wrong = []
    for number, raw in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        line = "".join(raw.partition("#")[0].split())
        if not line or line[0] == ";":
            continue
        if line[0] == "[" and line[-1] == "]":
            sections.append(Section(line[1:-1], number))
            continue
        name, equals, value = line.partition("=")
        if not equals or not name or not sections:
            wrong.append(f"{path}:{number}: expected [section] or option=value, got {raw.strip()[:60]!r}")
            continue
        sections[-1].options.setdefault(name, value)  # if an option is repeated, Darknet takes the first
    if wrong:
        raise ConversionError(wrong[:10], "name a .cfg of Darknet")
    if not sections or sections[0].type not in ("net", "network"):
        raise ConversionError([f"{path} does not begin with [net]"], "name a .cfg of Darknet")
    if len(sections) > MOST_SECTIONS:
        raise ConversionError(
            [f"{path} has {len(sections):,} sections, at most {MOST_SECTIONS:,} are read"], "use fewer"
        )
    return sections


class Weights:
    """The numbers of a .weights file, which layers take one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_bounded(path, MOST_WEIGHTS)
        if len(content) < 12:
            raise ConversionError([f"{path} is {len(content)} bytes long, shorter than its header"], "write it anew")
        major, minor, _ = np.frombuffer(content, "<i4", 3).tolist()
        wide = major * 10 + minor >= 2 and abs(major) < 1000 and abs(minor) < 1000
        self.start = 20 if wide else 16  # the images that training has seen are counted in 8 bytes, or in 4
        self.transposed = major > 1000 or minor > 1000  # connected layers by their inputs
        if len(content) < self.start or (len(content) - self.start) % 4:
            raise ConversionError(
                [f"{path} is {len(content):,} bytes long: {self.start} of a header, and no whole number of float32"],
                "write it anew",
            )
        self.numbers: Array = np.frombuffer(content, "<f4", offset=self.start)
        self.taken = 0

    def take(self, *shape: int) -> Array:
        """Return the next numbers as an array of the given shape; ConversionError if the file is too short."""
        count, place = prod(shape), self.taken
        if place + count > len(self.numbers):
            raise ConversionError(
                [
                    f"{self.path} is too short: its layers have {place + count:,} numbers or more, "
                    f"{self.start + 4 * (place + count):,} bytes, the file has {self.start + 4 * len(self.numbers):,}"
                ],
                "name the .weights of this very .cfg, or convert what comes before with --until",
            )
        self.taken += count
        return self.numbers[place : place + count].reshape(shape)

    def expect_end(self) -> None:
        """Raise ConversionError if numbers are left over."""
        if self.taken < len(self.numbers):
            raise ConversionError(
                [
                    f"{self.path} is too long: its layers have {self.taken:,} numbers, "
                    f"{self.start + 4 * self.taken:,} bytes, the file has {self.start + 4 * len(self.numbers):,}"
                ],
                "name the .weights of this very .cfg",
            )
