"""The source code of a layer, a loss, an optimizer or any other registered type."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from cnnspec import registry
from cnnspec.export.copied_functions import copied

FUNCTIONS = "numpy_functions.py"


def code(topic: str) -> str | None:
    """Return the source of the registered class of that name, for a layer after that of exported programs, or None."""
    return "\n\n\n".join(_parts(topic)) or None


def _parts(topic: str) -> Iterator[str]:
    for kind in registry.PACKAGES:
        cls = registry.table(kind).get(topic)
        if cls is None:
            continue
        functions = copied({topic}, FUNCTIONS) if kind == "layer" else []
        if functions:
            yield "\n\n".join(
                ["# As exported programs have it, in NumPy alone, maps (n, c, h, w)\n", *functions]
            ).rstrip()
        shapes = ", maps (h, c, w, n)" if kind == "layer" else ""
        yield f"# {cls.__module__}{shapes}\n\n\n{inspect.getsource(cls)}".rstrip()
