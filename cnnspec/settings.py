"""A project's settings for checking specs, from `pyproject.toml` or `cnnspec.toml`."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cnnspec.diagnostics import Diagnostic, SettingsError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.files import read_bounded, real_path
from cnnspec.spec.suggest import did_you_mean

SECTION, OWN_FILE, PROJECT_FILE = "cnnspec", "cnnspec.toml", "pyproject.toml"
KEYS = ("exclude", "extend", "ignore", "select")
MOST_BYTES = 1 << 20  # bytes of a settings file
MOST_EXTENDED = 10  # settings files that extend each other


@dataclass(frozen=True)
class Settings:
    """A project's settings for checking specs: paths to exclude, warnings to select and to ignore.

    `exclude` holds patterns for paths below `folder`, each with the folder that it is relative to. `select` is empty
    where every warning is reported.
    """

    exclude: tuple[tuple[Path, str], ...] = ()
    select: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()

    def tells(self, finding: Diagnostic) -> bool:
        """Tell whether a finding is reported: every error, and the warnings that are selected and not ignored."""
        selected = not self.select or finding.code in self.select
        return finding.severity == "error" or (selected and finding.code not in self.ignore)

    def excludes(self, path: Path) -> bool:
        """Tell whether a file, or a folder above it, matches a pattern by name or by path below the settings file."""
        resolved = path.absolute()
        for folder, pattern in self.exclude:
            if not resolved.is_relative_to(folder):
                continue
            below = resolved.relative_to(folder)
            # `**/` stands for no folder too.
            patterns = {pattern, pattern.removeprefix("**/"), pattern.replace("/**/", "/")}
            for part in (below, *below.parents):
                names = (part.name, part.as_posix()) if part.name else ()
                if any(fnmatch.fnmatchcase(name, each) for name in names for each in patterns):
                    return True
        return False


def exclusion(folder: Path, written: str, place: str) -> tuple[Path, str]:
    """Return a pattern of `exclude`, as it is matched below its folder; SettingsError for one that matches nothing."""
    pattern = written.strip("/").removeprefix("./")
    if pattern in ("", ".") or pattern.startswith("../"):
        help = "write a name, or a path relative to the folder of this setting"
        raise SettingsError(f"{place}: '{written}' matches no path below {folder}", help)
    return folder, pattern


def settings_of(path: Path) -> Settings:
    """Return the settings for a file or folder: those of the nearest settings file above it.

    That is a `cnnspec.toml`, or a `pyproject.toml` with `[tool.cnnspec]`. SettingsError if it cannot be read, is not
    valid TOML, or has an unknown key.
    """
    return _nearest(path.absolute() if path.is_dir() else path.absolute().parent)


def fault_of(code: str, key: str) -> tuple[str, str] | None:
    """Return the error and cure for a code that `select` or `ignore` cannot name; None for a valid code.

    Errors cannot be ignored: an error stops the checks after it, and would leave the spec silently unchecked.
    """
    if code not in CATALOGUE:
        return f"unknown code '{code}'", did_you_mean(code, CATALOGUE, "codes")
    if key == "ignore" and CATALOGUE[code].severity == "error":
        return f"{code} is an error, and only warnings can be ignored", "mend what is wrong, or exclude the file"
    return None


@lru_cache(maxsize=4096)
def _nearest(folder: Path) -> Settings:
    for name in (OWN_FILE, PROJECT_FILE):
        file = folder / name
        if file.is_file():
            settings = _section(file)
            if settings is not None:
                return _read(file, settings, (file,))
    return Settings() if folder.parent == folder else _nearest(folder.parent)


def _section(file: Path) -> Mapping[str, Any] | None:
    """Return the table for cnnspec in a settings file; None if a `pyproject.toml` has none."""
    import tomllib  # imported here, because most specs have no settings file above them

    try:
        text = read_bounded(str(file), MOST_BYTES).decode("utf-8-sig")
        if file.name == PROJECT_FILE and SECTION not in text:
            return None
        tree: Any = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no TOML: {error}") from error
    if file.name == PROJECT_FILE:
        tool = tree.get("tool")
        tree = tool.get(SECTION) if isinstance(tool, dict) else None
    if tree is not None and not isinstance(tree, dict):
        raise SettingsError(f"{file}: tool.{SECTION}: expected a table")
    return tree


def _read(file: Path, settings: Mapping[str, Any], chain: tuple[Path, ...]) -> Settings:
    """Return the settings of a table on top of those that it extends: lists are added, `select` is replaced."""
    for key in settings:
        if key not in KEYS:
            raise SettingsError(f"{file}: unknown key '{key}'", did_you_mean(key, KEYS, "keys"))
    base = Settings()
    if "extend" in settings:
        base = _extended(file, settings["extend"], chain)
    lists = {key: _texts(file, key, settings.get(key, [])) for key in ("exclude", "select", "ignore")}
    for key in ("select", "ignore"):
        for code in lists[key]:
            fault = fault_of(code, key)
            if fault is not None:
                raise SettingsError(f"{file}: {key}: {fault[0]}", fault[1])
    return Settings(
        (*base.exclude, *(exclusion(file.parent, one, f"{file}: exclude") for one in lists["exclude"])),
        frozenset(lists["select"]) if "select" in settings else base.select,
        base.ignore | frozenset(lists["ignore"]),
    )


def _extended(file: Path, named: object, chain: tuple[Path, ...]) -> Settings:
    if not isinstance(named, str):
        raise SettingsError(f"{file}: extend: expected the path of a settings file")
    path = real_path(file.parent / named)
    if path in chain or len(chain) == MOST_EXTENDED:
        raise SettingsError(f"{file}: extend: {named} leads in a circle")
    if not path.is_file():
        raise SettingsError(f"{file}: extend: there is no {named}", "the path is relative to the file that extends")
    settings = _section(path)
    if settings is None:
        raise SettingsError(f"{file}: extend: {named} has no [tool.{SECTION}]")
    return _read(path, settings, (*chain, path))


def _texts(file: Path, key: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise SettingsError(f"{file}: {key}: expected a list of texts")
    return tuple(given)
