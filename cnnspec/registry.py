"""One table for everything a spec can name: layers, optimizers, schedules, losses, sources, transforms.

A class joins with `@register("max_pool2d")`; its base class says which kind of thing it is. The package that
holds a kind is imported when the kind is first asked for, so no list of modules is kept by hand elsewhere.
Classes come from three places: this library, installed packages that name a module under the entry-point group
`cnnspec.plugins`, and files that `cnnspec.plugins` loads. Those of a file are known only where `using` says so.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

from cnnspec.diagnostics import PluginError

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
ENTRY_POINTS = "cnnspec.plugins"

C = TypeVar("C", bound=type)
Classes = dict[tuple[str, str], type[Any]]  # by kind and name

_library: dict[str, dict[str, type[Any]]] = {kind: {} for kind in PACKAGES}
_collector: ContextVar[tuple[str, Classes]] = ContextVar("collected", default=("", {}))  # classes of a module
_plugins: ContextVar[Classes] = ContextVar("used", default={})  # noqa: B039 - never changed in its place


def register(name: str) -> Callable[[C], C]:
    """Register a class under the name that specs use, in the table of its `kind`."""

    def enter(cls: C) -> C:
        kind = getattr(cls, "kind", None)
        if kind not in PACKAGES:
            raise TypeError(f"{cls.__name__} is none of {', '.join(PACKAGES)}: derive it from one of their bases")
        module, collected = _collector.get()
        # A module that is loaded may import others, the library's among them, whose classes are not its own.
        theirs = bool(module) and f"{cls.__module__}.".startswith(f"{module}.")
        before = collected.get((kind, name)) if theirs else _library[kind].get(name)
        if before is not None and not _is_again(cls, before):
            raise ValueError(f"the {kind} '{name}' is registered twice")
        cls.type_name = name  # type: ignore[attr-defined]
        if theirs:
            collected[kind, name] = cls
        else:
            _library[kind][name] = cls
        return cls

    return enter


def _is_again(cls: type[Any], before: type[Any]) -> bool:
    """Tell whether a class is a new version of another one, because a cell of a notebook was run again."""
    return cls.__module__ == before.__module__ == "__main__" and cls.__qualname__ == before.__qualname__


def table(kind: str) -> Mapping[str, type[Any]]:
    """Return every class of a kind by name: the library's, those of installed packages and of plugins in use."""
    others = {**_installed(), **_plugins.get()}
    return {**library_table(kind), **{name: cls for (of, name), cls in others.items() if of == kind}}


def library_table(kind: str) -> Mapping[str, type[Any]]:
    """Return the library's classes of a kind, and those that the running program has registered itself."""
    if PACKAGES[kind] not in sys.modules:
        importlib.import_module(PACKAGES[kind])
    return _library[kind]


def find(kind: str, name: str) -> type[Any]:
    """Return the class of that kind and name; KeyError if there is none."""
    if (kind, name) in _plugins.get():
        return _plugins.get()[kind, name]
    # Installed packages are only searched for names that the library lacks, because that takes time.
    cls = library_table(kind).get(name)
    return _installed()[kind, name] if cls is None else cls


@contextmanager
def collecting(module: str) -> Iterator[Classes]:
    """Collect the classes that a module or package registers in this context, instead of adding them to the table."""
    classes: Classes = {}
    token = _collector.set((module, classes))
    try:
        yield classes
    finally:
        _collector.reset(token)


@contextmanager
def using(classes: Mapping[tuple[str, str], type[Any]]) -> Iterator[None]:
    """Let specs name these classes too, within this context and thread."""
    token = _plugins.set({**_plugins.get(), **classes})
    try:
        yield
    finally:
        _plugins.reset(token)


@cache
def _installed() -> Classes:
    """Return the classes of installed packages; PluginError if one cannot be loaded or uses a name that is taken."""
    from importlib.metadata import entry_points  # takes as long to import as all else here

    installed: Classes = {}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        package = point.dist.name if point.dist else point.module
        origin, was_loaded = f"plugin {point.name} of the package {package}", point.module in sys.modules
        with collecting(point.module.partition(".")[0]) as classes:
            try:
                point.load()
            except (Exception, SystemExit) as error:
                message = f"{origin} cannot be loaded: {type(error).__name__}: {error}"
                raise PluginError(message, f"upgrade {package}, or uninstall it") from error
        if not classes and not was_loaded:
            raise PluginError(f"{origin} registers nothing", f"upgrade {package}, or uninstall it")
        for (kind, name), cls in classes.items():
            if name in library_table(kind) or (kind, name) in installed:
                message = f"{origin} registers the {kind} '{name}', which there is already"
                raise PluginError(message, f"upgrade {package}, or uninstall it")
            installed[kind, name] = cls
    return installed
