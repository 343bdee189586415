"""The command line: one module for each verb, and the only package that prints or exits."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import cnnspec
from cnnspec.cli.output import complain
from cnnspec.diagnostics import DataError, PluginError, RunError, SpecError, StartError
from cnnspec.diagnostics.formats.text import explained
from cnnspec.memory import available_bytes, bytes_text
from cnnspec.plugins import blamed
from cnnspec.spec.suggest import did_you_mean

VERBS = {
    "validate": "check spec files",
    "train": "train a network as its spec says",
    "sweep": "train many times with other values, and find the best by validation",
    "eval": "score a trained network on a split of its data",
    "predict": "ask a trained network about pictures or arrays",
    "export": "write a trained network for other programs",
    "convert": "write the network of another program as a spec and its weights",
    "verify": "train a run's first steps again and compare bit by bit",
    "report": "write one HTML file about a run, or about what differs between several",
    "serve": "open a local page to try a trained network, which programs may ask too",
    "runs": "list trainings, or compare some",
    "render": "print the spec with blocks expanded and every default",
    "diff": "what changed between two specs",
    "explain": "a page on a finding's code, or on a layer or anything else that a spec can name",
    "init": "write a commented spec to start from",
    "schema": "print the JSON Schema of specs, for editors",
    "format": "lay out spec files, comments kept",
    "lsp": "the language server, which editors start",
    "data": "list, fetch and verify data sets",
    "test": "validate, smoke-test and hold to their gates all specs, in a time budget",
    "gradcheck": "compare this network's gradients with differences, in float64",
    "smoke": "prove in seconds, on made-up data, that a network can learn",
    "graph": "draw the network as text, Mermaid, DOT, SVG, PNG or PDF",
    "bench": "time every layer against the machine's matrix-multiply peak, or the network against another framework",
    "completion": "print a script with which a shell completes verbs and options",
    "summary": "list layers with shapes, parameters, multiply-accumulates and memory",
}
DIVIDED = ("train", "sweep")  # verbs whose work several ranks divide
TRACKER = "in the issues of the repository that you have cnnspec from"
CLEAN, WRONG_SPEC, USAGE, BUG, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error in one line, with the command that shows the help."""

    def error(self, message: str) -> NoReturn:
        complain(message, f"see {self.prog} --help")
        raise SystemExit(USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0 clean, 1 wrong spec, 2 usage, 3 bug, 4 failed run, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    return reported(lambda: _dispatch(words), program=argv is None)


def reported(call: Callable[[], int], *, program: bool = False) -> int:
    """Return what a call returns; if it raises an error, print that, and return the exit code for its kind.

    If `program` is set, StartError is raised instead, so that the program can start again.
    """
    try:
        return call()
    except SystemExit as stop:
        return int(stop.code or 0)
    except SpecError as error:
        show(error)
        return WRONG_SPEC
    except PluginError as error:
        complain(str(error), error.help)
        return USAGE
    except (DataError, RunError) as error:
        if program and isinstance(error, StartError):
            raise
        complain(str(error), error.help)
        return FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except MemoryError as error:
        return _out_of_memory(str(error))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return _out_of_memory("")
        complain(f"cannot read {error.filename}: {error.strerror}" if error.filename else str(error))
        return USAGE
    except Exception as error:
        return _confess(error)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    wanted = _verb(words)
    if wanted is not None and wanted not in VERBS:
        complain(f"unknown verb '{wanted}'", did_you_mean(wanted, VERBS, "verbs"))
        return USAGE
    # Only the verb that runs is imported: `validate` must not wait for the trainer.
    parser, verbs = parsers([] if wanted is None else [wanted])
    arguments, extra = parser.parse_known_args(words)
    if extra:
        from cnnspec.cli.hints import instead  # imported here, because only a mistake needs it

        complain(f"unknown argument {extra[0]}", instead(extra[0], words, verbs[arguments.verb]))
        return USAGE
    from cnnspec.ranks.launch import launched  # imported here, because it loads NumPy, and a wrong command needs none

    rank, ranks = launched()
    if ranks > 1 and arguments.verb not in DIVIDED:
        if rank == 0:
            complain(
                f"a launcher has started {arguments.verb} {ranks} times, but it is the work of one process",
                "leave the launcher out: only train, and sweep --executor mpi, divide their work among ranks",
            )
        return USAGE
    return int(arguments.call(arguments))


def _verb(words: Sequence[str]) -> str | None:
    return next((word for word in words if not word.startswith("-")), None)


def load_verb(words: Sequence[str]) -> None:
    """Import the module of the verb that a command line names; an error arises again where the verb runs."""
    wanted = _verb(words)
    if wanted in VERBS:
        with suppress(Exception):
            importlib.import_module(f"cnnspec.cli.{wanted}")


def parsers(whole: Collection[str]) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of all verbs and that of each; only the verbs in `whole` are loaded and have arguments."""
    parser = _Parser(prog="cnnspec", description=cnnspec.__doc__)
    parser.add_argument("--version", action="version", version=f"cnnspec {cnnspec.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name, text in VERBS.items():
        subparser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in whole:
            module = importlib.import_module(f"cnnspec.cli.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(call=module.run)
    return parser, verbs.choices


def show(error: SpecError) -> None:
    """Print every finding with its source line."""
    print("\n\n".join(explained(diagnostic, coloured_output()) for diagnostic in error.diagnostics))


def coloured_output() -> bool:
    """Tell whether standard output is a terminal that may be coloured."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _out_of_memory(detail: str) -> int:
    """Report that memory ran out, with the amount that is free; large needs are checked before they arise."""
    available = available_bytes()
    there = "" if available is None else f"; {bytes_text(available)} is there"
    detail = f": {detail[:1].lower()}{detail[1:]}" if detail else ""
    complain(f"out of memory{detail}{there}", "lower the batch size, the size of the images or their number")
    return FAILED


def _confess(error: Exception) -> int:
    """Report an internal error and its place in one line, and write the whole traceback to a file."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="cnnspec-", suffix=".log", delete=False, encoding="utf-8") as log:
            traceback.print_exc(file=log)
        trace_file = log.name
    except OSError:
        trace_file = "a file that could not be written: set TMPDIR to a folder that takes one"
    place = blamed(error)
    if place is not None:
        complain(
            f"plugin {place}: {type(error).__name__}: {error}", f"mend the plugin; the whole trace is in {trace_file}"
        )
        return FAILED
    last = traceback.extract_tb(error.__traceback__)[-1]
    fault = f"{type(error).__name__}: {error}, at {Path(last.filename).name}:{last.lineno}"
    complain(f"internal error ({fault})", f"this is a bug in cnnspec: please report it {TRACKER}, with {trace_file}")
    return BUG
