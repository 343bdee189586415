"""One table for everything a spec can name: layers, optimizers, schedules, losses, sources, transforms.

A class joins with `@register("max_pool2d")`; its base class says which kind of thing it is. The package that
holds a kind is imported when the kind is first asked for, so no list of modules is kept by hand elsewhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

PACKAGES = {
    "layer": "cnnspec.layers",
    "initializer": "cnnspec.optim",
    "loss": "cnnspec.optim",
    "optimizer": "cnnspec.optim",
    "schedule": "cnnspec.optim",
    "source": "cnnspec.data",
    "transform": "cnnspec.data",
    "augmentation": "cnnspec.data",
}

C = TypeVar("C", bound=type)

_tables: dict[str, dict[str, type[Any]]] = {kind: {} for kind in PACKAGES}


def register(name: str) -> Callable[[C], C]:
    """Enter a class under the name that specs use; its `kind` says in which table."""

    def enter(cls: C) -> C:
        table = _tables[cls.kind]  # type: ignore[attr-defined]
        if name in table:
            raise ValueError(f"{cls.kind} {name!r} is registered twice")  # type: ignore[attr-defined]
        cls.type_name = name  # type: ignore[attr-defined]
        table[name] = cls
        return cls

    return enter


def table(kind: str) -> dict[str, type[Any]]:
    """Every registered class of a kind by its name, in the order of registration."""
    importlib.import_module(PACKAGES[kind])
    return _tables[kind]


def find(kind: str, name: str) -> type[Any]:
    """The class of that kind and name; KeyError where there is none."""
    return table(kind)[name]
