"""Findings with their places: the record, the errors that carry it, the catalogue and the formats."""

from cnnspec.diagnostics.record import (
    DataError,
    Diagnostic,
    Fix,
    PluginError,
    Related,
    RunError,
    SettingsError,
    Severity,
    Span,
    SpecError,
    StartError,
    ThreadsError,
    loggable,
    printable,
)

__all__ = [
    "DataError",
    "Diagnostic",
    "Fix",
    "PluginError",
    "Related",
    "RunError",
    "SettingsError",
    "Severity",
    "Span",
    "SpecError",
    "StartError",
    "ThreadsError",
    "loggable",
    "printable",
]
