"""Finds the specs that paths on the command line name: files, folders, globs, or standard input."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from cnnspec.settings import Settings, exclusion, settings_of
from cnnspec.spec.discover import is_spec, specs_below
from cnnspec.spec.load import STDIN


def named_specs(
    paths: Sequence[str], exclude: Sequence[str] = (), *, everywhere: bool = False
) -> tuple[list[str], list[str], int]:
    """Return the specs that paths name, the paths that name none, and the number of YAML files that are no specs.

    Files in folders are left out if they match `exclude` or a project's settings; with `everywhere`, named files too.
    """
    files: dict[str, None] = {}
    missing: list[str] = []
    foreign: set[str] = set()
    exclusions = Settings(tuple(exclusion(Path.cwd(), pattern, "--exclude") for pattern in exclude))

    def excluded(path: Path) -> bool:
        return exclusions.excludes(path) or settings_of(path).excludes(path)

    for path in paths:
        if path == "-":
            files[STDIN] = None
            continue
        names = [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))
        missing += [] if names else [path]
        for name in names:
            if Path(name).is_dir():
                below = list(specs_below(name, excluded))
                specs = [file for file, says_so in below if says_so]
                files |= dict.fromkeys(specs)
                foreign |= {file for file, says_so in below if not says_so}
                missing += [] if specs else [name]
            elif not everywhere or (is_spec(Path(name)) and not excluded(Path(name))):
                files[name] = None
    return list(files), missing, len(foreign)


def nothing_at(missing: Sequence[str], foreign: int) -> tuple[str, str]:
    """Return an error message for paths that name no spec, and the cure."""
    others = f"; {foreign:,} YAML file{'s do' if foreign > 1 else ' does'} not say cnnspec:" if foreign else ""
    return f"no spec at {', '.join(missing)}", f"name a YAML file or a folder with some{others}"
