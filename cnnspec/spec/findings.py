"""The list of a spec's errors and warnings, so that one run reports all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnspec.diagnostics import Diagnostic, Fix, Related, Span, SpecError
from cnnspec.spec.spelling import called
from cnnspec.spec.suggest import clearest, did_you_mean, listing, plural
from cnnspec.spec.tree import Where
from cnnspec.spec.words import advice

MOST_VALUES = 200_000  # values filled in for variables and parameters, in the whole spec
MOST_FINDINGS = 1000  # errors of a spec: a person reads fewer, and each costs time
MOST_COMPARED = 2_000_000  # pairs of letters compared in searches for misspelt names, in the whole spec


class Wrong(Exception):  # noqa: N818 - control flow within this package: the finding is already recorded
    """Raised for a value that was reported as an error and can't be used."""


class Findings:
    """A list of diagnostics, and the methods that add to it."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._compared = self._spent = 0
        self._told: set[tuple[str, str, Span]] = set()  # a mistake in a block is reported at its first use only

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        where: Where,
        *,
        help: str | None = None,
        related: tuple[Related, ...] = (),
        fix: Fix | None = None,
    ) -> Wrong:
        """Record an error, and return the exception to raise where the value is needed; SpecError after too many."""
        if (code, message, span) not in self._told:
            self._told.add((code, message, span))
            self.diagnostics.append(
                Diagnostic(code, "error", message, span, where.path, help, (), (*related, *where.uses), fix)
            )
        if len(self.diagnostics) >= MOST_FINDINGS:
            message = f"expected fewer than {MOST_FINDINGS:,} findings: the file was not read any further"
            self.diagnostics.append(Diagnostic("too-large", "error", message, span, where.path))
            raise SpecError(self.diagnostics)
        return Wrong(message)

    def warn(self, code: str, message: str, span: Span, where: Where, help: str | None = None) -> None:
        """Record a warning, which does not stop the spec from being used."""
        self.diagnostics.append(Diagnostic(code, "warning", message, span, where.path, help, (), where.uses))

    def spend(self, values: int, span: Span, where: Where) -> None:
        """Add to the number of values filled in; SpecError once there are too many."""
        self._spent += values
        if self._spent > MOST_VALUES:
            message = f"expected at most {MOST_VALUES:,} values with all variables and parameters filled in"
            self.error("too-large", message, span, where)
            raise SpecError(self.diagnostics)

    def meant(self, word: str, names: Sequence[str], known_names: str) -> tuple[str | None, str]:
        """Return the name that was clearly meant, if any, and a line of help; a long search only lists the names."""
        self._compared += len(word) * sum(map(len, names))
        if self._compared > MOST_COMPARED:
            return None, listing(names, known_names)
        return clearest(word, names), did_you_mean(word, names, known_names)

    def drop(self, code: str) -> None:
        """Remove the findings with a code, because they follow from another finding."""
        self.diagnostics = [diagnostic for diagnostic in self.diagnostics if diagnostic.code != code]

    def unknown(
        self,
        code: str,
        what: str,
        word: str,
        names: Iterable[str],
        span: Span,
        where: Where,
        related: tuple[Related, ...] = (),
        place: str = "",
    ) -> Wrong:
        """Report an unknown name, with its equivalent here or the nearest names; `place` is that of `advice`."""
        advice_text = advice(place, word)
        if advice_text is not None:
            return self.error(code, f"unknown {what} '{word}'", span, where, help=advice_text, related=related)
        noun, gap, rest = what.partition(" ")
        listed, (name, has_settings) = list(names), called(word)
        if code == "unknown-type" and span.line != span.end_line:
            help = "align its lines with their neighbours: they are read as one text"
            return self.error(code, f"unknown {what} '{word}'", span, where, help=help, related=related)
        word_meant = name if code == "unknown-type" else word
        suggestion, known = self.meant(word_meant, listed, f"known {plural(noun)}{gap}{rest}")
        if code == "unknown-type" and has_settings and suggestion is not None:
            help = f"write {{type: {suggestion}, ...}}, with its settings as keys"
            return self.error(code, f"unknown {what} '{word}'", span, where, help=help, related=related)
        fix = Fix(span, suggestion, f"replace {word} by {suggestion}") if suggestion else None
        return self.error(code, f"unknown {what} '{word}'", span, where, help=known, related=related, fix=fix)
