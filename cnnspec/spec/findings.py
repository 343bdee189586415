"""The list of what is wrong with a spec, so that one run reports all of it."""

from __future__ import annotations

from collections.abc import Iterable

from cnnspec.diagnostics import Diagnostic, Fix, Related, Span
from cnnspec.spec.suggest import clearest, did_you_mean, plural
from cnnspec.spec.tree import Where
from cnnspec.spec.words import advice


class Wrong(Exception):  # noqa: N818 - control flow within this package: the finding is already recorded
    """A value that was reported and can't be used."""


class Findings:
    """A list of diagnostics, and the few forms in which they arise."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
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
        """Record an error; raise what comes back where the value is needed."""
        if (code, message, span) not in self._told:
            self._told.add((code, message, span))
            self.diagnostics.append(
                Diagnostic(code, "error", message, span, where.path, help, (), (*related, *where.uses), fix)
            )
        return Wrong(message)

    def warn(self, code: str, message: str, span: Span, where: Where, help: str | None = None) -> None:
        """Record a warning, which does not stop the spec from being used."""
        self.diagnostics.append(Diagnostic(code, "warning", message, span, where.path, help, (), where.uses))

    def drop(self, code: str) -> None:
        """Forget findings that follow from another one."""
        self.diagnostics = [found for found in self.diagnostics if found.code != code]

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
        """A name that nothing has, with what says the same here, or the nearest names; `place` is that of `advice`."""
        listed = list(names)
        told = advice(place, word)
        if told is not None:
            return self.error(code, f"unknown {what} '{word}'", span, where, help=told, related=related)
        meant = clearest(word, listed)
        fix = Fix(span, meant, f"replace {word} by {meant}") if meant else None
        noun, gap, rest = what.partition(" ")
        known = did_you_mean(word, listed, f"known {plural(noun)}{gap}{rest}")
        return self.error(code, f"unknown {what} '{word}'", span, where, help=known, related=related, fix=fix)
