"""A part of a file that a spec cannot express: its place, the reason, and the nearest alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Exceptions where an operator lacks the expected attributes or constants, so that the file is damaged.
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class Unsaid(Exception):  # noqa: N818  (no error: the file is sound)
    """Raised for an operator that no layer can express; `nearest` is the closest alternative."""

    def __init__(self, reason: str, nearest: str = "") -> None:
        super().__init__(reason)
        self.nearest = nearest


class Unknown(Unsaid):
    """Raised for an operator that reads the output of a refused one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One operator of a file that no layer can express."""

    node: str
    operator: str
    reason: str
    nearest: str

    def text(self) -> str:
        """Return the refusal as one line."""
        nearest = f"; nearest: {self.nearest}" if self.nearest else ""
        return f"{self.node} ({self.operator}): {self.reason}{nearest}"


class ConversionError(Exception):
    """A file that cannot be converted: all reasons, and the cure."""

    def __init__(self, reasons: list[str], help: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons
        self.help = help


def unknown_end(until: str, names: Sequence[str], noun: str = "layer") -> ConversionError:
    """Return the error for an `--until` that names no layer, where those of the file have these names, in order."""
    return ConversionError(
        [f"no {noun} {until!r}"], f"write --until NAME; the last {noun}s are {', '.join(names[-5:])}"
    )
