"""`validate [PATHS]`: check files, folders and globs, all in one run."""

from __future__ import annotations

import argparse
import difflib
import glob
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnspec.cli import CLEAN, USAGE, WRONG_SPEC, coloured_output
from cnnspec.cli.arguments import OUTSIDE
from cnnspec.cli.check import checked
from cnnspec.diagnostics import Diagnostic, RunError, SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.formats import FORMATS, formatted
from cnnspec.diagnostics.formats.text import explained, source_lines, summary
from cnnspec.graph.lints import lint
from cnnspec.spec import load
from cnnspec.spec.mend import mend
from cnnspec.spec.suggest import did_you_mean

IGNORE = re.compile(r"#\s*cnnspec:\s*ignore\[([a-z0-9, -]+)\]\s*$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["specs"], help="files, folders, globs, or -")
    parser.add_argument("--format", choices=tuple(FORMATS), default="full", help="default: full")
    parser.add_argument("--output-file", type=Path, metavar="FILE", help="write the report there, and say less")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--fix", action="store_true", help="apply safe fixes, such as a misspelt key, to the files")
    parser.add_argument("--diff", action="store_true", help="show what --fix would change, and change nothing")
    parser.add_argument("--allow-outside", action="store_true", help=OUTSIDE)
    parser.add_argument("--select", action="append", default=[], metavar="CODE", help="report these codes alone")
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE", help="do not report these codes")


def run(arguments: argparse.Namespace) -> int:
    """Check everything; 1 where anything is wrong, 2 where a path or a code leads nowhere."""
    for code in _codes([*arguments.select, *arguments.ignore]):
        if code not in CATALOGUE:
            return _usage(f"unknown code '{code}'", did_you_mean(code, CATALOGUE, "codes"))
    files, missing = _files(arguments.paths)
    if missing:
        return _usage(f"no spec at {', '.join(missing)}", "name a YAML file or a folder with some")
    found = [diagnostic for file in files for diagnostic in _findings(file, arguments)]
    if arguments.diff or arguments.fix:
        found = _mended(found, files, arguments)
    _report(found, files, arguments)
    failing = [diagnostic for diagnostic in found if arguments.strict or diagnostic.severity == "error"]
    return WRONG_SPEC if failing else CLEAN


def _findings(file: str, arguments: argparse.Namespace) -> list[Diagnostic]:
    """What is to be said of a file."""
    select, ignore = _codes(arguments.select), _codes(arguments.ignore)
    return [
        d
        for d in _unsilenced(_check(file, allow_outside=arguments.allow_outside))
        if (not select or d.code in select) and d.code not in ignore
    ]


def _check(file: str, *, allow_outside: bool = False) -> list[Diagnostic]:
    try:
        spec = load(file, allow_outside=allow_outside)
        graph = checked(spec)
    except SpecError as error:
        return list(error.diagnostics)
    return sorted([*spec.warnings, *lint(spec, graph)], key=lambda diagnostic: diagnostic.span)


def _mended(found: list[Diagnostic], files: Sequence[str], arguments: argparse.Namespace) -> list[Diagnostic]:
    """Apply what can be fixed, or show it as a diff; what is left to a person."""
    for file in files:
        if not Path(file).is_file():
            continue
        before = Path(file).read_bytes().decode("utf-8", "surrogateescape")
        after, count = mend(before, file, found)
        if not count:
            continue
        if arguments.diff:
            lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), file, f"{file} (fixed)")
            print("".join(lines), end="")
        else:
            _replace(Path(file), after)
            found = [d for d in found if d.span.file != file] + _findings(file, arguments)
            print(f"{file}: fixed {count}")
    return found


def _replace(path: Path, text: str) -> None:
    """Write beside the file and rename, so that it is whole at every moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))
        shutil.copymode(path, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def _unsilenced(found: list[Diagnostic]) -> list[Diagnostic]:
    """Leave out what a comment at the line's end silences."""
    kept = []
    for diagnostic in found:
        lines = source_lines(diagnostic.span.file)
        line = lines[diagnostic.span.line - 1] if diagnostic.span.line <= len(lines) else ""
        match = IGNORE.search(line)
        if match is None or diagnostic.code not in _codes([match[1]]):
            kept.append(diagnostic)
    return kept


def _report(found: Sequence[Diagnostic], files: Sequence[str], arguments: argparse.Namespace) -> None:
    if arguments.format == "full" and arguments.output_file is None:
        for diagnostic in found:
            print(explained(diagnostic, coloured_output()) + "\n")
        print(summary(found, files))
        return
    text = formatted(arguments.format, found, files)
    if arguments.output_file is None:
        if text:
            print(text)
        return
    try:
        arguments.output_file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {arguments.output_file}: {error.strerror}") from error
    print(summary(found, files))


def _codes(texts: Sequence[str]) -> set[str]:
    return {code.strip() for text in texts for code in text.split(",") if code.strip()}


def _usage(message: str, help: str) -> int:
    print(f"cnnspec: error: {message}\nhelp: {help}", file=sys.stderr)
    return USAGE


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
