"""What cannot be said in a spec: where it stands, why, and what is nearest."""

from __future__ import annotations

from dataclasses import dataclass

# What code raises that finds other attributes or constants than an operator has: the file is damaged.
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class Unsaid(Exception):  # noqa: N818  (no error: the file is sound)
    """Raised where an operator means what no layer does; `nearest` is what comes closest to it."""

    def __init__(self, reason: str, nearest: str = "") -> None:
        super().__init__(reason)
        self.nearest = nearest


class Unknown(Unsaid):
    """Raised where an operator reads what another one makes that is refused itself."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One operator of a file that no layer stands for."""

    node: str
    operator: str
    reason: str
    nearest: str

    def text(self) -> str:
        """The refusal as one line."""
        nearest = f"; nearest: {self.nearest}" if self.nearest else ""
        return f"{self.node} ({self.operator}): {self.reason}{nearest}"


class ConversionError(Exception):
    """A file that is no network which a spec can say: all reasons, and what to do about them."""

    def __init__(self, reasons: list[str], help: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons
        self.help = help
