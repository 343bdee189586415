"""`validate [PATHS]`: check files, folders and globs, all in one run."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

from cnnspec.check import checked
from cnnspec.cli import CLEAN, USAGE, WRONG_SPEC, coloured_output
from cnnspec.cli.arguments import OUTSIDE, add_overrides, add_plugins, count
from cnnspec.cli.changes import difference, replace_text
from cnnspec.cli.named import named_specs, nothing_at
from cnnspec.cli.output import complain, note, visible
from cnnspec.cli.outputs import refuse_overwriting
from cnnspec.diagnostics import Diagnostic, RunError, SettingsError, Span, SpecError
from cnnspec.diagnostics.baseline import Finding, read_baseline, unknown_findings, write_baseline
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.formats import FORMATS, formatted
from cnnspec.diagnostics.formats.text import explained, summary
from cnnspec.diagnostics.silence import unsilenced
from cnnspec.diagnostics.source import GIVEN, given
from cnnspec.files import rewrite
from cnnspec.lints import lint
from cnnspec.settings import Settings, fault_of, settings_of
from cnnspec.spec import load, loads
from cnnspec.spec.load import STDIN
from cnnspec.spec.mend import mend
from cnnspec.spec.reader import read_text

MOST_ROUNDS = 9  # rounds of fixes: each fix may reveal further findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.epilog = (
        "In a folder, a YAML file is taken for a spec if it says cnnspec: at its top level. A project's "
        "pyproject.toml ([tool.cnnspec]) or cnnspec.toml may hold exclude, select, ignore and extend."
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["specs"], help="files, folders, globs, or -")
    parser.add_argument("--format", choices=tuple(FORMATS), default="full", help="default: full")
    parser.add_argument("--output-file", type=Path, metavar="FILE", help="write the report there, and say less")
    parser.add_argument("--statistics", action="store_true", help="count findings by code instead of showing them")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--fix", action="store_true", help="apply safe fixes, such as a misspelt key, to the files")
    parser.add_argument("--diff", action="store_true", help="show what --fix would change, and change nothing")
    add_overrides(parser)
    parser.add_argument("--allow-outside", action="store_true", help=OUTSIDE)
    add_plugins(parser)
    parser.add_argument("--select", action="append", default=[], metavar="CODE", help="report only these warnings")
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE", help="do not report these warnings")
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="leave these paths out")
    parser.add_argument(
        "--force-exclude", action="store_true", help="leave out named files too that a folder's check would leave out"
    )
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="a file of known findings, which pass")
    parser.add_argument("--update-baseline", action="store_true", help="write all that is found into --baseline")
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="processes that check files (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Check everything; return 1 if anything is wrong, 2 if a path, a code or a setting does not exist."""
    for key in ("select", "ignore"):
        for code in sorted(_codes(getattr(arguments, key))):
            fault = fault_of(code, key)
            if fault is not None:
                return _usage(*fault)
    if arguments.update_baseline and arguments.baseline is None:
        return _usage("--update-baseline needs --baseline FILE", "name the file to write")
    if arguments.statistics and (arguments.format not in ("full", "concise") or arguments.output_file):
        help = "leave --statistics out: the report holds the code of each finding"
        return _usage("--statistics prints a table, and goes without --output-file and other formats", help)
    if arguments.update_baseline and (arguments.fix or arguments.diff):
        return _usage("--update-baseline goes without --fix and --diff", "fix first, and write the rest then")
    try:
        files, missing, foreign = named_specs(arguments.paths, arguments.exclude, everywhere=arguments.force_exclude)
        known = None if arguments.baseline is None or arguments.update_baseline else read_baseline(arguments.baseline)
        settings = {file: settings_of(Path(file)) for file in files}
    except SettingsError as error:
        return _usage(str(error), error.help)
    if missing:
        return _usage(*nothing_at(missing, foreign))
    if foreign:
        note(f"{foreign:,} YAML file{'s are' if foreign > 1 else ' is'} no spec: passed over, as cnnspec: is not said")
    if arguments.fix and STDIN in files:
        return _usage("--fix cannot change standard input", "name the file, or look with --diff")
    refuse_overwriting(arguments.output_file, [*files, *([arguments.baseline] if arguments.baseline else [])])
    if arguments.update_baseline:
        refuse_overwriting(arguments.baseline, files)
    found = _checked(files, arguments, settings)
    if arguments.diff or arguments.fix:
        _mend(found, arguments, settings)
    findings = [diagnostic for file in files for diagnostic in found[file]]
    if arguments.update_baseline:
        return _write_baseline(arguments.baseline, findings)
    if known is not None:
        findings = _without_known(findings, known, arguments.baseline, files)
    if not arguments.diff or arguments.output_file is not None:
        _report(findings, files, arguments)
    failing = [diagnostic for diagnostic in findings if arguments.strict or diagnostic.severity == "error"]
    return WRONG_SPEC if failing else CLEAN


def _checked(
    files: Sequence[str], arguments: argparse.Namespace, settings: Mapping[str, Settings]
) -> dict[str, list[Diagnostic]]:
    """Return the findings for each file, found by as many processes as requested."""
    if arguments.jobs == 1 or len(files) == 1 or STDIN in files:
        return {file: _findings(file, arguments, settings[file]) for file in files}
    from concurrent.futures import ProcessPoolExecutor  # imported here, because a single process does not need it

    with ProcessPoolExecutor(min(arguments.jobs, len(files))) as pool:
        found = pool.map(_findings, files, repeat(arguments), (settings[file] for file in files), chunksize=4)
        return dict(zip(files, found, strict=True))


def _findings(file: str, arguments: argparse.Namespace, settings: Settings) -> list[Diagnostic]:
    """Return the findings for a file: all errors, and the warnings that are selected and not ignored."""
    settings = replace(
        settings,
        select=frozenset(_codes(arguments.select)) or settings.select,
        ignore=settings.ignore | _codes(arguments.ignore),
    )
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
    return [finding for finding in found if settings.tells(finding)]


def _write_baseline(path: Path, found: Sequence[Diagnostic]) -> int:
    try:
        write_baseline(path, found)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
    print(visible(f"{len(found):,} known finding{'' if len(found) == 1 else 's'} written to {path}"))
    return CLEAN


def _without_known(
    found: list[Diagnostic], known: Counter[Finding], path: Path, files: Sequence[str]
) -> list[Diagnostic]:
    """Return the findings that are not in a baseline, and print how many are, and how many of it are healed."""
    new, healed = unknown_findings(found, known, path, files)
    if len(new) < len(found):
        note(f"{len(found) - len(new):,} known in {path}")
    if healed:
        note(f"{healed:,} of {path} healed: take {'them' if healed > 1 else 'it'} out with --update-baseline")
    return new


def check_file(
    file: str,
    *,
    overrides: Sequence[str] = (),
    allow_outside: bool = False,
    plugins: Sequence[Path] = (),
    allow_plugins: bool = False,
) -> list[Diagnostic]:
    """Return all findings in a file or a given text, silenced or not, sorted by place."""
    trust: dict[str, Any] = {"allow_outside": allow_outside, "plugins": plugins, "allow_plugins": allow_plugins}
    try:
        if file in GIVEN:
            spec = loads(GIVEN[file], file, overrides, **trust)
        else:
            spec = load("-" if file == STDIN else file, overrides, **trust)
    except SpecError as error:
        return list(error.diagnostics)
    except OSError as error:
        return [Diagnostic("unreadable-file", "error", f"cannot be read: {error.strerror}", Span(file, 1, 1, 1, 1))]
    try:
        graph = checked(spec)
    except SpecError as error:
        from cnnspec.cli.since import with_last_run  # imports what compares graphs, which a valid spec does not need

        return with_last_run(error.diagnostics, spec)
    return sorted([*spec.warnings, *lint(spec, graph)], key=lambda diagnostic: diagnostic.span)


def _mend(found: dict[str, list[Diagnostic]], arguments: argparse.Namespace, settings: Mapping[str, Settings]) -> None:
    """Apply all fixes, and keep the other findings; with --diff, only print the changes."""
    total = changed = 0
    for file, findings_of_file in found.items():
        if not any(d.fix for d in findings_of_file):
            continue
        changed += 1
        before = text = read_text(file, file)
        with given(file, text):  # which may have changed since it was checked
            findings_of_file = _findings(file, arguments, settings[file])
        for _ in range(MOST_ROUNDS):
            text, count = mend(text, file, findings_of_file)
            if not count:
                break
            total += count
            with given(file, text):
                findings_of_file = _findings(file, arguments, settings[file])
        if arguments.diff:
            print(difference(before, text, file, "fixed"), end="")
        else:
            replace_text(Path(file), text)
            found[file] = findings_of_file
    word = "would fix" if arguments.diff else "fixed"
    print(f"{word} {total} in {changed} file{'' if changed == 1 else 's'}", file=sys.stderr)


def _report(found: Sequence[Diagnostic], files: Sequence[str], arguments: argparse.Namespace) -> None:
    if arguments.statistics:
        for code, times in sorted(Counter(d.code for d in found).items(), key=lambda pair: (-pair[1], pair[0])):
            print(f"{times:>6}  {CATALOGUE[code].severity}[{code}]  {CATALOGUE[code].title}")
        print(summary(found, files))
        return
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
        rewrite(arguments.output_file, f"{text}\n".encode())
    except OSError as error:
        raise RunError(f"cannot write {arguments.output_file}: {error.strerror}") from error
    print(summary(found, files))


def _codes(texts: Sequence[str]) -> set[str]:
    return {code.strip() for text in texts for code in text.split(",") if code.strip()}


def _usage(message: str, help: str | None) -> int:
    complain(message, help)
    return USAGE
