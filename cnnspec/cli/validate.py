"""`validate [PATHS]`: check files, folders and globs, all in one run."""

from __future__ import annotations

import argparse
import difflib
import glob
import os
import shutil
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cnnspec.check import checked
from cnnspec.cli import CLEAN, USAGE, WRONG_SPEC, coloured_output
from cnnspec.cli.arguments import OUTSIDE, add_overrides, add_plugins
from cnnspec.cli.output import complain
from cnnspec.diagnostics import Diagnostic, RunError, Span, SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.formats import FORMATS, formatted
from cnnspec.diagnostics.formats.text import explained, summary
from cnnspec.diagnostics.silence import unsilenced
from cnnspec.diagnostics.source import GIVEN, given
from cnnspec.lints import lint
from cnnspec.spec import load, loads
from cnnspec.spec.load import STDIN
from cnnspec.spec.mend import mend
from cnnspec.spec.suggest import did_you_mean

MOST_ROUNDS = 9  # of fixes, each of which may bring others to light


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["specs"], help="files, folders, globs, or -")
    parser.add_argument("--format", choices=tuple(FORMATS), default="full", help="default: full")
    parser.add_argument("--output-file", type=Path, metavar="FILE", help="write the report there, and say less")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--fix", action="store_true", help="apply safe fixes, such as a misspelt key, to the files")
    parser.add_argument("--diff", action="store_true", help="show what --fix would change, and change nothing")
    add_overrides(parser)
    parser.add_argument("--allow-outside", action="store_true", help=OUTSIDE)
    add_plugins(parser)
    parser.add_argument("--select", action="append", default=[], metavar="CODE", help="report only these codes")
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE", help="do not report these codes")


def run(arguments: argparse.Namespace) -> int:
    """Check everything; 1 where anything is wrong, 2 where a path or a code leads nowhere."""
    for code in _codes([*arguments.select, *arguments.ignore]):
        if code not in CATALOGUE:
            return _usage(f"unknown code '{code}'", did_you_mean(code, CATALOGUE, "codes"))
    files, missing = _files(arguments.paths)
    if missing:
        return _usage(f"no spec at {', '.join(missing)}", "name a YAML file or a folder with some")
    if arguments.fix and STDIN in files:
        return _usage("--fix cannot change standard input", "name the file, or look with --diff")
    found = {file: _findings(file, arguments) for file in files}
    if arguments.diff or arguments.fix:
        _mend(found, arguments)
    told = [diagnostic for file in files for diagnostic in found[file]]
    if not arguments.diff or arguments.output_file is not None:
        _report(told, files, arguments)
    failing = [diagnostic for diagnostic in told if arguments.strict or diagnostic.severity == "error"]
    return WRONG_SPEC if failing else CLEAN


def _findings(file: str, arguments: argparse.Namespace) -> list[Diagnostic]:
    """What is to be said of a file."""
    select, ignore = _codes(arguments.select), _codes(arguments.ignore)
    found = unsilenced(
        check_file(
            file,
            allow_outside=arguments.allow_outside,
            plugins=arguments.plugins,
            allow_plugins=arguments.allow_plugins,
            overrides=arguments.overrides,
        ),
        file,
    )
    return [d for d in found if (not select or d.code in select) and d.code not in ignore]


def check_file(
    file: str,
    *,
    overrides: Sequence[str] = (),
    allow_outside: bool = False,
    plugins: Sequence[Path] = (),
    allow_plugins: bool = False,
) -> list[Diagnostic]:
    """Everything that is wrong with a file or a given text, silenced or not, sorted by place."""
    trust: dict[str, Any] = {"allow_outside": allow_outside, "plugins": plugins, "allow_plugins": allow_plugins}
    try:
        if file in GIVEN:
            spec = loads(GIVEN[file], file, overrides, **trust)
        else:
            spec = load("-" if file == STDIN else file, overrides, **trust)
        graph = checked(spec)
    except SpecError as error:
        return list(error.diagnostics)
    except OSError as error:
        return [Diagnostic("unreadable-file", "error", f"cannot be read: {error.strerror}", Span(file, 1, 1, 1, 1))]
    return sorted([*spec.warnings, *lint(spec, graph)], key=lambda diagnostic: diagnostic.span)


def _mend(found: dict[str, list[Diagnostic]], arguments: argparse.Namespace) -> None:
    """Apply what can be fixed, and leave what is left to a person; or show it as a diff, and leave all."""
    total = changed = 0
    for file, own in found.items():
        if not any(d.fix for d in own):
            continue
        changed += 1
        before = text = _read(file)
        for _ in range(MOST_ROUNDS):
            text, count = mend(text, file, own)
            if not count:
                break
            total += count
            with given(file, text):
                own = _findings(file, arguments)
        if arguments.diff:
            print(_difference(before, text, file), end="")
        else:
            _replace(Path(file), text)
            found[file] = own
    word = "would fix" if arguments.diff else "fixed"
    print(f"{word} {total} in {changed} file{'' if changed == 1 else 's'}", file=sys.stderr)


def _read(file: str) -> str:
    """The text of a file that was checked, letter by letter."""
    return GIVEN[file] if file in GIVEN else Path(file).read_bytes().decode("utf-8-sig")


def _difference(before: str, after: str, file: str) -> str:
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), file, f"{file} (fixed)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _replace(path: Path, text: str) -> None:
    """Write beside the file and rename, so that it is whole at every moment; a byte order mark stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with path.open("rb") as file:
            mark = BOM_UTF8 if file.read(3) == BOM_UTF8 else b""
        temporary.write_bytes(mark + text.encode())
        shutil.copymode(path, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}") from error


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
    complain(message, help)
    return USAGE


def _files(paths: list[str]) -> tuple[list[str], list[str]]:
    """The spec files that paths name, and the paths that name none."""
    files: dict[str, None] = {}
    missing: list[str] = []
    for path in paths:
        found = (
            [STDIN]
            if path == "-"
            else _specs([path] if Path(path).exists() else sorted(glob.glob(path, recursive=True)))
        )
        files |= dict.fromkeys(found)
        missing += [] if found else [path]
    return list(files), missing


def _specs(paths: Iterable[str]) -> list[str]:
    """Files as they are, folders with all their YAML files, except for what is hidden, such as .git and .venv."""
    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        below = (file.relative_to(path) for file in Path(path).rglob("*") if file.suffix in (".yaml", ".yml"))
        shown = (file for file in below if not any(part.startswith(".") for part in file.parts))
        found += sorted(str(Path(path) / file) for file in shown if not (Path(path) / file).is_dir())
    return found
