"""The record of a finding, which every stage uses: its message, its place and its cure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LONGEST = 2000  # characters of a text in a finding
Severity = Literal["error", "warning"]
# The first letter of what GitHub, Azure and TeamCity obey in a line of a log; a table may begin a line with any word.
WORDS = "error|warning|notice|debug|group|endgroup|echo|add-|remove-|set-|save-|stop-"
COMMAND = re.compile(rf"(?i):(?=:(?:{WORDS}))|#(?=#(?:\[|vso\[|teamcity\[))")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a file; lines and columns count from 1, and the end column is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Related:
    """Another place that is relevant to a finding, such as the first of two equal keys."""

    message: str
    span: Span

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _shortened(self.message))


@dataclass(frozen=True, slots=True)
class Fix:
    """A replacement of one stretch of the file that is safe to apply without review."""

    span: Span
    replacement: str
    title: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: its message (what was expected, then what was found), its place, and its cure."""

    code: str
    severity: Severity
    message: str
    span: Span
    path: str = ""
    help: str | None = None
    notes: tuple[str, ...] = ()
    related: tuple[Related, ...] = ()
    fix: Fix | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _shortened(self.message))
        object.__setattr__(self, "path", _shortened(self.path))
        object.__setattr__(self, "help", self.help and _shortened(self.help))
        object.__setattr__(self, "notes", tuple(map(_shortened, self.notes)))


def first_line(diagnostic: Diagnostic) -> str:
    """Return `specs/lenet.yaml:11:47: error[shape-mismatch]: ...`, a line that is complete by itself."""
    span = diagnostic.span
    head = f"{loggable(span.file)}:{span.line}:{span.column}"
    return f"{head}: {diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"


def printable(text: str) -> str:
    """Return a text on one line without control characters, so that a file cannot control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    """Return a printable text, and of a very long one its two ends: a file may have names of any length."""
    end = LONGEST // 2
    return printable(text if len(text) <= LONGEST else f"{text[:end]} ... {text[-end:]}")


def loggable(text: str) -> str:
    """Return a printable text in which a CI log finds no command, wherever in a line it is put."""
    return COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", printable(text))


class SpecError(Exception):
    """The spec is wrong; holds every finding of the stage that stopped, sorted by place, and prints them."""

    def __init__(self, diagnostics: list[Diagnostic] | tuple[Diagnostic, ...]) -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=lambda d: d.span))
        helps = ("" if d.help is None else f"\nhelp: {d.help}" for d in self.diagnostics)
        super().__init__("\n".join(first_line(d) + help for d, help in zip(self.diagnostics, helps, strict=True)))

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Diagnostic, ...]]]:
        return SpecError, (self.diagnostics,)


class DataError(Exception):
    """Data that is missing, damaged or does not fit; the message is one line, and `help` is the cure."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


class RunError(Exception):
    """A run that could not continue or missed what `require` names; the message is one line, and `help` is the cure."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


class ThreadsError(RunError):
    """The system refuses to start threads; nothing was computed."""


class StartError(RunError):
    """The process was started in the wrong environment; a new one, started with these variables, can do the task."""

    def __init__(self, message: str, environment: Mapping[str, str]) -> None:
        assignments = " ".join(f"{name}='{value}'" for name, value in environment.items())
        super().__init__(message, f"set before Python starts: {assignments}")
        self.environment = environment


class PluginError(Exception):
    """A plugin file or package that cannot be used; the message is one line, and `help` is the cure."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


class SettingsError(Exception):
    """A project's settings that cannot be used; the message is one line, and `help` is the cure."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help
