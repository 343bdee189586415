"""`validate [PATHS]`: check files, folders and globs, all in one run."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from pathlib import Path

from cnnspec.cli import CLEAN, USAGE, WRONG_SPEC, source_lines
from cnnspec.cli.check import checked
from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.diagnostics.text import concise, full, summary
from cnnspec.spec import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["specs"], help="files, folders, globs, or -")
    parser.add_argument("--format", choices=("full", "concise"), default="full", help="default: full")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")


def run(arguments: argparse.Namespace) -> int:
    """Check everything; 1 where anything is wrong, 2 where a path leads nowhere."""
    files, missing = _files(arguments.paths)
    for path in missing:
        print(f"cnnspec: error: no spec at {path}\nhelp: name a YAML file or a folder with some", file=sys.stderr)
    if missing:
        return USAGE
    found = [diagnostic for file in files for diagnostic in _check(file)]
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for diagnostic in found:
        whole = arguments.format == "full"
        print(full(diagnostic, source_lines, colour) + "\n" if whole else concise(diagnostic))
    print(summary(found, len(files)))
    failing = [diagnostic for diagnostic in found if arguments.strict or diagnostic.severity == "error"]
    return WRONG_SPEC if failing else CLEAN


def _check(file: str) -> list[Diagnostic]:
    try:
        spec = load(file)
        checked(spec)
    except SpecError as error:
        return list(error.diagnostics)
    return list(spec.warnings)


def _files(paths: list[str]) -> tuple[list[str], list[str]]:
    """The spec files that paths name, and the paths that name none."""
    files: list[str] = []
    missing: list[str] = []
    for path in paths:
        if path == "-" or Path(path).is_file():
            found = [path]
        elif Path(path).is_dir():
            found = sorted(str(f) for f in Path(path).rglob("*") if f.suffix in (".yaml", ".yml"))
        else:
            found = sorted(glob.glob(path, recursive=True))
        files += [file for file in found if file not in files]
        missing += [] if found else [path]
    return files, missing
