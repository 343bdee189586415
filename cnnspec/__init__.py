"""cnnspec: a declarative model-spec compiler for convolutional networks, in NumPy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspec.api import Model, compile, load, load_spec
    from cnnspec.callbacks import Callback, History, ProgressLine, StopTraining
    from cnnspec.diagnostics import DataError, Diagnostic, PluginError, RunError, SpecError
    from cnnspec.spec import Spec
    from cnnspec.train.score import Score

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "DataError",
    "Diagnostic",
    "History",
    "Model",
    "PluginError",
    "ProgressLine",
    "RunError",
    "Score",
    "Spec",
    "SpecError",
    "StopTraining",
    "compile",
    "load",
    "load_spec",
]

_HOMES = {
    "cnnspec.api": ("Model", "compile", "load", "load_spec"),
    "cnnspec.callbacks": ("Callback", "History", "ProgressLine", "StopTraining"),
    "cnnspec.diagnostics": ("DataError", "Diagnostic", "PluginError", "RunError", "SpecError"),
    "cnnspec.spec": ("Spec",),
    "cnnspec.train.score": ("Score",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a stage when it is first asked for: the command line's validation needs no trainer."""
    if name not in _HOME:
        raise AttributeError(f"module 'cnnspec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the names that can be imported, before they are loaded."""
    return sorted({*globals(), *__all__})
