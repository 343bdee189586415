"""The stages of `test` for one spec: validate it, smoke-test it, train it until its requirements can be checked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from cnnspec.check import checked
from cnnspec.data.open import root_of
from cnnspec.data.published import Published
from cnnspec.diagnostics import DataError, SpecError
from cnnspec.diagnostics.record import first_line
from cnnspec.graph import Graph
from cnnspec.lints import lint
from cnnspec.spec import Spec

Outcome = Literal["passed", "failed", "skipped"]
PATIENCE = 30.0  # seconds that an interrupted training may take to write its checkpoint


@dataclass(frozen=True)
class Stage:
    """One stage of one spec: its outcome, the reason, and its duration in seconds."""

    name: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """The limits of the stages: seconds for the smoke test, the end of all trainings, and the steps of each."""

    smoke_seconds: float
    deadline: float
    max_steps: int | None
    threads: int | None
    data: Path | None


def stages(spec: Spec, words: Sequence[str], limits: Limits) -> Iterator[tuple[Stage, Graph | None]]:
    """Validate, smoke-test and train a spec; yield each stage, with the network once there is one.

    `words` are the arguments that read the spec again, for the programs that run the later stages.
    """
    try:
        graph = checked(spec)
    except SpecError as error:
        yield Stage("validate", "failed", "\n".join(map(first_line, error.diagnostics))), None
        return
    warnings = [first_line(warning) for warning in (*spec.warnings, *lint(spec, graph))]
    yield Stage("validate", "passed", "\n".join(warnings)), graph
    if spec.train is None:
        yield Stage("smoke", "skipped", "the spec has no train section"), graph
        return
    stage = _smoke(words, limits)
    yield stage, graph
    if stage.outcome == "passed":
        yield _train(spec, words, limits), graph


def _smoke(words: Sequence[str], limits: Limits) -> Stage:
    start = time.monotonic()
    command = [sys.executable, "-m", "cnnspec", "smoke", *words, "--json", "--seconds", str(limits.smoke_seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    message = last_words(done.stderr) if done.returncode else ""
    return Stage("smoke", "failed" if done.returncode else "passed", message, time.monotonic() - start)


def _train(spec: Spec, words: Sequence[str], limits: Limits) -> Stage:
    """Train until the schedule, the steps or the time end; requirements only count if the training was complete."""
    if not spec.require:
        return Stage("gates", "skipped", "the spec requires nothing")
    absent = _absent(spec, limits.data)
    if absent is not None:
        return Stage("gates", "skipped", absent)
    left = limits.deadline - time.monotonic()
    if left <= 0:
        return Stage("gates", "skipped", "no time is left: give more with --budget")
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cnnspec", "train", *words, "--json", "--quiet", "--out", folder]
        command += ["--max-steps", str(limits.max_steps)] if limits.max_steps else []
        command += ["--threads", str(limits.threads)] if limits.threads else []
        command += ["--data", str(limits.data)] if limits.data else []
        start = time.monotonic()
        output, errors, status, ended = _run(command, left)
    return _outcome(spec, (output, errors, status, ended), limits.max_steps, time.monotonic() - start)


def _run(command: Sequence[str], seconds: float) -> tuple[str, str, int, bool]:
    """Run a program, end it after `seconds`; return output, errors, exit code, and whether it was interrupted."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            return *process.communicate(timeout=seconds), process.returncode, False
        except subprocess.TimeoutExpired:
            process.terminate()  # a program in the background of a shell ignores Ctrl-C's signal
        except BaseException:
            process.kill()
            raise
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
        return output, errors, process.returncode, True


def _outcome(spec: Spec, end: tuple[str, str, int, bool], max_steps: int | None, seconds: float) -> Stage:
    """Return the stage of a training, from its output, its errors, its exit code, and whether it was interrupted."""
    output, errors, status, interrupted = end
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    last = rows[-1] if rows else {}
    results = last.get("results", last)
    reached = ", ".join(_figures(spec, results))
    at = f" at {reached}" if reached else ""
    if interrupted:
        return Stage("gates", "skipped", f"the time ended{at}", seconds, results)
    if last.get("unmet"):
        if results.get("step") == max_steps:
            return Stage("gates", "skipped", f"cut short after {max_steps:,} steps{at}", seconds, results)
        return Stage("gates", "failed", "; ".join(last["unmet"]), seconds, results)
    if status:
        return Stage("gates", "failed", last_words(errors), seconds, results)
    return Stage("gates", "passed", reached, seconds, results)


def _figures(spec: Spec, results: dict[str, Any]) -> Iterator[str]:
    """Yield the figures that the spec requires, as far as a training has them."""
    for metric in dict.fromkeys(required.metric for required in spec.require):
        if results.get(metric) is not None:
            yield f"{metric} {results[metric]:.4g}"


def _absent(spec: Spec, folder: Path | None) -> str | None:
    """Return a message if a published data set is not on this machine, else None."""
    if spec.data is None or not isinstance(spec.data.source, Published):
        return None
    try:
        spec.data.source.locate(folder or root_of(spec.data, spec.base))
    except DataError as error:
        return f"{error}: fetch it with `cnnspec data fetch {spec.data.source.type_name}`"
    return None


def last_words(errors: str) -> str:
    """Return the last error of a program that failed, with its cure."""
    lines = [line.removeprefix("cnnspec: error: ") for line in errors.splitlines() if "cnnspec: note:" not in line]
    return "\n".join(lines[-2:])
