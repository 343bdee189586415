"""Functions that bind arithmetic to arrays and return steps: how a layer's formula is computed.

Each file holds one algorithm or one family of algorithms, and knows arrays but no layers, specs or plans. A module is
loaded at its first use: checking a spec takes only shapes, and should not wait for the arithmetic to load.
"""

from __future__ import annotations

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType


def load() -> None:
    """Load every module that was named so far, so that no thread finds a module that another one has half loaded."""
    for value in list(globals().values()):
        if isinstance(value, ModuleType) and value.__name__.startswith(f"{__name__}."):
            dir(value)


def __getattr__(name: str) -> ModuleType:
    spec = None if name.startswith("__") else find_spec(f"{__name__}.{name}")
    if spec is None or spec.loader is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    sys.modules[spec.name] = globals()[name] = module
    spec.loader.exec_module(module)
    return module
