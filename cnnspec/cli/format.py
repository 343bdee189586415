"""`format [PATHS]`: the canonical layout of spec files, comments kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnspec.cli import CLEAN, USAGE, WRONG_SPEC, show
from cnnspec.cli.changes import difference, replace_text
from cnnspec.cli.named import named_specs, nothing_at
from cnnspec.cli.output import complain, visible
from cnnspec.diagnostics import SettingsError, SpecError
from cnnspec.spec.layout import formatted
from cnnspec.spec.load import STDIN
from cnnspec.spec.reader import read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["specs"], help="files, folders or globs")
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a file would change")
    parser.add_argument("--diff", action="store_true", help="show what would change, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Lay out every file; return 1 if one cannot be read, or, with --check, if one would change."""
    try:
        files, missing, foreign = named_specs(arguments.paths)
    except SettingsError as error:
        complain(str(error), error.help)
        return USAGE
    if missing:
        complain(*nothing_at(missing, foreign))
        return USAGE
    if STDIN in files:
        complain("format cannot change standard input", "name the file")
        return USAGE
    status, changed = CLEAN, 0
    for file in files:
        try:
            before = read_text(file, file)
            after = formatted(before, file)
        except SpecError as error:
            show(error)
            status = WRONG_SPEC
            continue
        if after == before:
            continue
        changed += 1
        if arguments.diff:
            print(difference(before, after, file, "formatted"), end="")
        elif arguments.check:
            print(visible(f"would format {file}"))
        else:
            replace_text(Path(file), after)
    word = "would format" if arguments.check or arguments.diff else "formatted"
    print(f"{word} {changed} of {len(files)} file{'' if len(files) == 1 else 's'}")
    return WRONG_SPEC if changed and arguments.check else status
