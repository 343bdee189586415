"""cnnspec: a declarative model-spec compiler for convolutional networks, in NumPy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspec.api import Model, compile, load

__version__ = "0.1.0"
__all__ = ["Model", "compile", "load"]

_HOMES = {"load": "cnnspec.spec", "compile": "cnnspec.api", "Model": "cnnspec.api"}


def __getattr__(name: str) -> Any:
    """Import a stage when it is first asked for: the command line's validation needs no trainer."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cnnspec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
