"""Plugins: Python files of the user's that register layers, losses, optimizers, sources and other types.

A plugin is one Python file. It is run once for its content, under a module name of its own, and its classes are known
only to the spec that names it: two specs may each have a layer `swoosh`. A run's directory stores the plugins that its
training used, file by file with checksums, so that the run needs neither the original file nor a flag later on.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.machinery import SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType
from typing import Any

from cnnspec import registry
from cnnspec.diagnostics import PluginError, RunError
from cnnspec.fields import options
from cnnspec.files import read_bounded, real_path

FOLDER = "plugins"  # the folder of plugins in a run's directory
MOST_BYTES = 16 << 20  # of a plugin
KINDS = ", ".join(registry.PACKAGES)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A file that was run: its name as the spec writes it, its content, and the classes that it registers."""

    name: str
    path: Path
    source: bytes = field(repr=False)
    classes: Mapping[tuple[str, str], type[Any]] = field(repr=False)  # by kind and name

    @property
    def sha256(self) -> str:
        """The checksum of the content."""
        return checksum(self.source)


_loaded: dict[tuple[Path, bytes], Plugin] = {}  # files that were run in this process; a changed file is run again

_numbers = count(1)


def load(path: Path, name: str | None = None) -> Plugin:
    """Run a file, unless this process has run it; PluginError if it cannot be read or run, or registers nothing."""
    name = name or str(path)
    try:
        source = read_bounded(path, MOST_BYTES)
    except OSError as error:
        raise PluginError(f"cannot read the plugin {name}: {error.strerror}", "name a Python file") from error
    key = (real_path(path), source)
    if key not in _loaded:
        _loaded[key] = Plugin(name, key[0], source, _run(key[0], source, name))
    return replace(_loaded[key], name=name)


def load_all(paths: Iterable[str | Path]) -> tuple[Plugin, ...]:
    """Run files; PluginError if one fails, or if two of them register the same name."""
    return combined(load(Path(path)) for path in paths)


def combined(plugins: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """Return each plugin once; PluginError if one registers a name that another one or the library has."""
    first_of_content: dict[bytes, Plugin] = {}
    for plugin in plugins:
        if plugin.source in first_of_content:
            continue
        for kind, name in plugin.classes:
            other = next((other for other in first_of_content.values() if (kind, name) in other.classes), None)
            if other is not None or name in registry.table(kind):
                where = f"{other.name} registers too" if other else "there is already"
                line = _line_of(plugin.classes[kind, name])
                message = f"plugin {plugin.name}, line {line}: registers the {kind} '{name}', which {where}"
                raise PluginError(message, "give it another name")
        first_of_content[plugin.source] = plugin
    return tuple(first_of_content.values())


@contextmanager
def using(plugins: Iterable[Plugin]) -> Iterator[None]:
    """Let specs name the types that these plugins register, within this context."""
    with registry.using({key: cls for plugin in plugins for key, cls in plugin.classes.items()}):
        yield


def keep(plugins: Sequence[Plugin], directory: Path) -> tuple[Plugin, ...]:
    """Copy the plugins into a run's directory, and return them under their names there."""
    renamed: dict[str, Plugin] = {}
    for plugin in plugins:
        name, number = f"{FOLDER}/{plugin.path.name}", 1
        while name in renamed:
            number += 1
            name = f"{FOLDER}/{plugin.path.stem}-{number}{plugin.path.suffix}"
        renamed[name] = replace(plugin, name=name)
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(plugin.source)
    return tuple(renamed.values())


def relative(path: Path, folder: Path) -> str:
    """Return a path as a spec in that folder would write it."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return path.as_posix()


def recorded(plugins: Sequence[Plugin], copies: Sequence[Plugin]) -> list[dict[str, str]]:
    """Return the plugins' entries in run.json: their paths relative to the spec, and their copies with checksums."""
    return [
        {"path": plugin.name, "file": copy.name, "sha256": plugin.sha256}
        for plugin, copy in zip(plugins, copies, strict=True)
    ]


def check_kept(directory: Path, entries: Mapping[str, Any]) -> list[str]:
    """Compare a run's plugins with run.json; RunError if the run's copy of one was changed.

    Returns a line for every plugin whose original has changed: the run uses its copy.
    """
    notes = []
    spec, records = Path(str(entries.get("spec", ""))), entries.get("plugins", [])
    if not isinstance(records, list) or not all(map(_is_record, records)):
        raise RunError(
            f"{directory}/run.json does not say which plugins the training ran", "put it back, or train anew"
        )
    for record in records:
        copy, original = directory / record["file"], spec.parent / record["path"]
        checksum = _checksum_of(copy)
        if checksum != record["sha256"]:
            state = "is missing" if checksum is None else "was changed"
            raise RunError(
                f"{copy} {state}: the training ran the plugin with SHA-256 {record['sha256'][:12]}",
                f"put the file back, such as {original} as it was, or train anew",
            )
        if _checksum_of(original) not in (None, checksum):
            notes.append(f"{original} has changed since this training began; the run uses its own copy, {copy}")
    return notes


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and all(isinstance(record.get(key), str) for key in ("path", "file", "sha256"))


def blamed(error: BaseException) -> str | None:
    """Return the file and line of a plugin in which an exception arose; None if it arose elsewhere."""
    files = {str(plugin.path) for plugin in _loaded.values()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


class _Loader(SourceFileLoader):
    """Runs source that was read already, so that the code matches its checksum; writes no compiled file."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.source, self.path)


def _run(path: Path, source: bytes, name: str) -> registry.Classes:
    module_name = f"_plugin_{next(_numbers)}"  # not below `cnnspec`, because classes there count as the library's own
    spec = importlib.util.spec_from_loader(module_name, _Loader(module_name, path, source))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # annotations are looked up there
    linecache.checkcache(str(path))
    try:
        with registry.collecting(module_name) as classes:
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise _failure(error, path, name) from error
    for cls in classes.values():
        try:
            options(cls)  # reads the annotations of fields now, because they are otherwise evaluated late
        except Exception as error:
            message = f"plugin {name}, line {_line_of(cls)}: {cls.__name__}: {error}"
            raise PluginError(message, "mend the annotations of its fields") from error
    if not classes:
        raise PluginError(f"plugin {name} registers nothing", f"put @register(NAME) above a class: {KINDS}")
    return classes


def _failure(error: BaseException, path: Path, name: str) -> PluginError:
    """Return the error of a file that failed to run, with the line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line, message, help = (lines[-1] if lines else None), str(error), "mend the file"
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line, message = error.lineno, error.msg
    if isinstance(error, ModuleNotFoundError):
        help = f"install {error.name}; a plugin is one file and cannot import others that lie beside it"
    where = f", line {line}" if line else ""
    return PluginError(f"plugin {name}{where}: {type(error).__name__}: {message}", help)


def _line_of(cls: type[Any]) -> int:
    from inspect import getsourcelines  # slow to import

    return getsourcelines(cls)[1]


def checksum(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    from hashlib import sha256  # slow to import

    return sha256(content).hexdigest()


def _checksum_of(path: Path) -> str | None:
    try:
        return checksum(read_bounded(path, MOST_BYTES))
    except OSError:
        return None
