"""The analysis of a text as a spec: the findings of `validate`, and the result of every stage that it reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnspec.check import mismatches
from cnnspec.diagnostics import Diagnostic, SettingsError, SpecError
from cnnspec.diagnostics.silence import unsilenced
from cnnspec.graph import Graph, Trace, follow
from cnnspec.lints import lint
from cnnspec.settings import Settings, settings_of
from cnnspec.spec.inherit import lineage, merged
from cnnspec.spec.load import typed
from cnnspec.spec.reader import read
from cnnspec.spec.tree import Tree


@dataclass(frozen=True, slots=True)
class Trust:
    """The permissions of files in a workspace: to extend files elsewhere, and to run plugins."""

    allow_outside: bool = False
    plugins: Sequence[Path] = ()
    allow_plugins: bool = False


@dataclass(slots=True)
class Analysis:
    """The results of all stages for one version of a text; None for a stage that was not reached."""

    text: str
    diagnostics: list[Diagnostic] = field(default_factory=list)
    lineage: Sequence[Tree] = ()  # the tree of the file, then those of the files that it extends
    tree: Tree | None = None  # the lineage merged into one
    trace: Trace | None = None
    graph: Graph | None = None


def analyse(text: str, file: str, trust: Trust) -> Analysis:
    """Read and check a text as `validate` does with a file of that name."""
    analysis = Analysis(text)
    try:
        diagnostics = _understand(analysis, file, trust)
    except SpecError as error:
        diagnostics = list(error.diagnostics)
    settings = _settings(file)
    analysis.diagnostics = [finding for finding in unsilenced(diagnostics, file) if settings.tells(finding)]
    return analysis


def _settings(file: str) -> Settings:
    """Return the settings of the project; the defaults if they cannot be read, which only `validate` reports."""
    try:
        return settings_of(Path(file))
    except SettingsError:
        return Settings()


def _understand(found: Analysis, file: str, trust: Trust) -> list[Diagnostic]:
    """Run stage after stage and store the results; return the warnings of a valid spec, or raise SpecError."""
    found.lineage = lineage(read(found.text, file), file, outside=trust.allow_outside)
    found.tree = merged(found.lineage)
    spec = typed(found.tree, file, plugins=trust.plugins, allow_plugins=trust.allow_plugins)
    found.trace = follow(spec)
    graph = found.trace.graph()
    wrong = mismatches(spec, graph)
    if wrong:
        raise SpecError(wrong)
    found.graph = graph
    return sorted([*spec.warnings, *lint(spec, graph)], key=lambda diagnostic: diagnostic.span)
