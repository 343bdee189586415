"""Findings with their places: the record, the exceptions that carry it, the catalogue of codes, the output formats."""

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
