"""`test [PATHS]`: validates every spec, smoke-tests it and trains it to its requirements, within a time budget."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from cnnspec.cli import CLEAN, FAILED, USAGE, WRONG_SPEC
from cnnspec.cli.arguments import add_overrides, add_plugins, amount, count, read_spec
from cnnspec.cli.diff import figures, said
from cnnspec.cli.markdown import code
from cnnspec.cli.named import named_specs, nothing_at
from cnnspec.cli.output import complain, note, visible
from cnnspec.cli.outputs import refuse_overwriting
from cnnspec.cli.revision import spec_at
from cnnspec.cli.stages import Limits, Stage, stages
from cnnspec.diagnostics import RunError, SettingsError, SpecError, printable
from cnnspec.diagnostics.record import first_line
from cnnspec.files import rewrite
from cnnspec.graph import Graph, build
from cnnspec.graph.difference import difference, settings_difference
from cnnspec.signals import Interruption, handling, interrupt
from cnnspec.spec import Spec, load


@dataclass(frozen=True)
class Tested:
    """A spec with its stages, and its figures before, at the revision it is compared with, and after."""

    file: str
    stages: tuple[Stage, ...]
    before: dict[str, int] | None
    after: dict[str, int] | None

    @property
    def failed(self) -> bool:
        """Whether any stage failed."""
        return any(stage.outcome == "failed" for stage in self.stages)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.epilog = (
        "A training that the budget or --max-steps cuts short is no verdict on gates: it is told, and fails nothing. A "
        "data set that is not on this machine skips the gates of its specs."
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["specs"], help="files, folders or globs")
    parser.add_argument("--against", metavar="REVISION", help="test only what differs from there, and show how")
    parser.add_argument("--max-steps", type=amount, metavar="N", help="end each training after so many steps")
    parser.add_argument(
        "--budget", type=float, default=600.0, metavar="SECONDS", help="for all trainings (default: 600)"
    )
    parser.add_argument("--smoke-seconds", type=float, default=20.0, metavar="SECONDS", help="a spec (default: 20)")
    parser.add_argument("--threads", type=count, metavar="N", help="threads that each training computes with")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data sets' files")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the outcome as JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write it as a comment for a pull request")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--allow-outside", action="store_true", help="let extends lead out of the spec's repository")
    add_overrides(parser)
    add_plugins(parser, computes=True)


def run(arguments: argparse.Namespace) -> int:
    """Test everything; return 1 if a spec is wrong, 4 if one cannot learn or misses its requirements.

    A signal ends the program that runs too, which would train on alone.
    """
    try:
        with handling(interrupt):
            return _run(arguments)
    except Interruption as interruption:
        complain(f"{interruption} ended the test")
        return 128 + interruption.number


def _run(arguments: argparse.Namespace) -> int:
    try:
        files, missing, foreign = named_specs(arguments.paths)
    except SettingsError as error:
        complain(str(error), error.help)
        return USAGE
    if missing:
        complain(*nothing_at(missing, foreign))
        return USAGE
    for output in (arguments.junit, arguments.markdown):
        refuse_overwriting(output, files)
    limits = Limits(
        arguments.smoke_seconds,
        time.monotonic() + arguments.budget,
        arguments.max_steps,
        arguments.threads,
        arguments.data,
    )
    results: list[Tested] = []
    for file in files:
        tested = _tested(file, limits, arguments)
        if tested is not None:
            results.append(tested)
    _write(arguments.junit, partial(_junit, results))
    _write(arguments.markdown, partial(_markdown, results, arguments.against))
    if arguments.json:
        print(json.dumps({"specs": [asdict(tested) | {"failed": tested.failed} for tested in results]}, indent=2))
    else:
        print(_summary(results))
    wrong = any(stage.name == "validate" and stage.outcome == "failed" for tested in results for stage in tested.stages)
    return WRONG_SPEC if wrong else FAILED if any(tested.failed for tested in results) else CLEAN


def _tested(file: str, limits: Limits, arguments: argparse.Namespace) -> Tested | None:
    """Test one spec; return None if it has not changed since the revision."""
    before = after = None
    try:
        spec = read_spec(file, arguments)
        if arguments.against is not None:
            old = _spec_at(arguments.against, file, arguments)
            if old is not None and not _differs(old, spec):
                return None
            before = None if old is None else figures(old, build(old))
    except SpecError as error:
        stage = Stage("validate", "failed", "\n".join(map(first_line, error.diagnostics)))
        _tell(file, stage, arguments)
        return Tested(file, (stage,), None, None)
    done: list[Stage] = []
    for stage, graph in stages(spec, _words(file, arguments), limits):
        after = after if graph is None else after or figures(spec, graph)
        done.append(stage)
        _tell(file, stage, arguments)
    return Tested(file, tuple(done), before, after)


def _spec_at(revision: str, file: str, arguments: argparse.Namespace) -> Spec | None:
    """Return the spec at a revision; None if it did not exist or was wrong."""
    read = partial(load, overrides=arguments.overrides, plugins=arguments.plugins, allow_plugins=True)
    try:
        return spec_at(revision, Path(file), read)
    except SpecError:
        return None
    except RunError as error:
        note(f"{file}: new since {revision} ({error})")
        return None


def _differs(old: Spec, new: Spec) -> bool:
    graphs: tuple[Graph, Graph] = build(old), build(new)
    return bool(difference(*graphs) or settings_difference(said(old, graphs[0]), said(new, graphs[1])))


def _words(file: str, arguments: argparse.Namespace) -> list[str]:
    """Return the arguments with which other verbs read the same spec."""
    words = [file]
    for setting in arguments.overrides:
        words += ["--set", setting]
    for plugin in arguments.plugins:
        words += ["--plugin", str(plugin)]
    return words + (["--allow-outside"] if arguments.allow_outside else [])


def _tell(file: str, stage: Stage, arguments: argparse.Namespace) -> None:
    if not arguments.json:
        line = f"{file}: {stage.name} {stage.outcome}"
        first, *more = stage.message.split("\n") if stage.outcome != "passed" or stage.name == "gates" else [""]
        print(visible("\n".join([line + (f": {first}" if first else ""), *more])), flush=True)


def _summary(found: Sequence[Tested]) -> str:
    failed = sum(tested.failed for tested in found)
    skipped = sum(stage.outcome == "skipped" for tested in found for stage in tested.stages)
    counts = [f"{len(found)} spec{'' if len(found) == 1 else 's'}", f"{failed} failed"]
    return ", ".join([*counts, f"{skipped} stage{'' if skipped == 1 else 's'} skipped"])


def _write(path: Path | None, text: partial[str]) -> None:
    if path is None:
        return
    try:
        rewrite(path, text().encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def _junit(found: Sequence[Tested]) -> str:
    """Return JUnit XML with a suite for each spec and a case for each stage."""
    suites = Element("testsuites")
    for tested in found:
        outcomes = [stage.outcome for stage in tested.stages]
        suite = SubElement(suites, "testsuite", name=printable(tested.file), tests=str(len(outcomes)), errors="0")
        suite.set("failures", str(outcomes.count("failed")))
        suite.set("skipped", str(outcomes.count("skipped")))
        for stage in tested.stages:
            case = SubElement(suite, "testcase", name=stage.name, classname=printable(tested.file))
            case.set("time", f"{stage.seconds:.3f}")
            message = visible(stage.message)
            if stage.outcome == "failed":
                SubElement(case, "failure", type=stage.name, message=message.split("\n")[0]).text = message
            elif stage.outcome == "skipped":
                SubElement(case, "skipped", message=message)
            elif message:
                SubElement(case, "system-out").text = message
    indent(suites)
    return tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _markdown(found: Sequence[Tested], revision: str | None) -> str:
    """Return a table with a row for each spec: its figures, those at the revision, and the outcome of its stages."""
    if not found:
        return f"No spec differs from `{revision}`.\n" if revision else "No specs.\n"
    lines = ["| spec | parameters | MACs | training memory | smoke | gates |", "|---|---:|---:|---:|---|---|"]
    for tested in found:
        cells = [_change(tested, name) for name in ("parameters", "MACs", "memory")]
        by_name = {stage.name: stage for stage in tested.stages}
        ends = [_end(by_name.get(name)) for name in ("smoke", "gates")]
        lines.append("| " + " | ".join([code(tested.file), *cells, *ends]) + " |")
    for tested in found:
        for stage in tested.stages:
            if stage.outcome == "failed":
                lines += [
                    "",
                    f"**{code(tested.file)}: {stage.name} failed**",
                    "",
                    "```",
                    visible(stage.message),
                    "```",
                ]
    return "\n".join(lines) + "\n"


def _change(tested: Tested, name: str) -> str:
    if tested.after is None:
        return ""
    new = tested.after[name]
    old = None if tested.before is None else tested.before[name]
    return (
        f"{new:,}"
        if old is None or old == new
        else f"{old:,} → {new:,} ({(new - old) / old:+.1%})"
        if old
        else f"{new:,}"
    )


def _end(stage: Stage | None) -> str:
    if stage is None:
        return "not run"
    first = stage.message.split("\n")[0]
    return stage.outcome + (f": {code(first)}" if first and stage.outcome != "failed" else "")
