"""Training by several ranks, which an MPI launcher has started: the first one writes files and output for all."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, TextIO

from cnnspec.cli import FAILED, reported
from cnnspec.cli.output import complain, note
from cnnspec.cli.versions import versions
from cnnspec.data import Data
from cnnspec.diagnostics import RunError, StartError
from cnnspec.graph import Graph
from cnnspec.plan import shards_of
from cnnspec.ranks import SINGLE_RANK, Exchange
from cnnspec.ranks.launch import START, join, launched
from cnnspec.spec import Spec
from cnnspec.train.network import usable_processors
from cnnspec.train.origin import comparable

if TYPE_CHECKING:
    from cnnspec.ranks.mpi import MpiExchange
    from cnnspec.ranks.watch import Failure, Watchdog

ERROR = re.compile(r"(?:cnnspec: )?(.*?)error(?:\[[\w-]+\])?: (.*)")  # of a run, or of a spec at its place


def on_all_ranks(call: Callable[[Exchange], int], before: Callable[[], object], cure: str) -> int:
    """Run a call on every rank that a launcher has started, and return its exit code.

    `before` is the beginning of the call, run without output in advance: it may raise StartError, which would be too
    late once the ranks have joined. Its other errors arise again in the call. `cure` is what to do if a rank is lost.

    An error on any rank ends all of them. The first rank prints it: its own error, which all may have, such as a wrong
    spec, or else the first one of the others, with that rank and its host.
    """
    rank, size = launched()
    if size == 1:
        return call(SINGLE_RANK)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            before()
    except StartError:
        raise
    except (Exception, SystemExit):
        pass  # it arises again on all ranks together
    return _Rank(rank, sys.stderr, cure).run(call)


class _Rank:
    """One of several ranks; all but the first print nothing, but use `stderr` where the first rank is lost."""

    def __init__(self, number: int, stderr: TextIO, cure: str) -> None:
        self.number, self.stderr, self.cure = number, stderr, cure
        self.exchange: MpiExchange | None = None
        self.watchdog: Watchdog | None = None
        self.agreed = False  # whether all ranks have come to the end

    def run(self, call: Callable[[Exchange], int]) -> int:
        error_output = io.StringIO()
        with ExitStack() as stack:
            if self.number:
                stack.enter_context(redirect_stdout(error_output))
                stack.enter_context(redirect_stderr(error_output))
            status = reported(partial(self.joined, call))
        if self.exchange is not None and not self.agreed:
            if self.number and self.watchdog is not None:
                self.watchdog.fail(self.failure(error_output.getvalue(), status))
            self.exchange.abort(status)
        return status

    def failure(self, said: str, status: int) -> Failure:
        """Return the failure of this rank, from what it has said on standard error and its exit status."""
        from cnnspec.ranks.watch import Failure  # needs mpi4py, an extra

        lines = said.splitlines()
        errors = ["".join(found.groups()) for line in lines if (found := ERROR.match(line))]
        helps = [line.removeprefix("help: ") for line in lines if line.startswith("help: ")]
        return Failure(errors[-1] if errors else f"ended with status {status}", helps[-1] if helps else None, status)

    def joined(self, call: Callable[[Exchange], int]) -> int:
        self.exchange = join(self.waits, self.late)
        from cnnspec.ranks.watch import SILENCE, Failure, Watchdog  # needs mpi4py, an extra

        silence = Failure(f"no sign of life for {SILENCE:g} seconds", self.cure, FAILED)
        self.watchdog = Watchdog(self.exchange, self.report, silence)
        try:
            statuses = self.exchange.tell(call(self.exchange))
        except BaseException:
            if self.number == 0:
                self.watchdog.claim()
            raise
        self.watchdog.end()
        self.agreed = True
        return int(statuses[0])

    def waits(self) -> None:
        with redirect_stderr(self.stderr):
            note(
                f"rank {self.number} on {platform.node()} waits for other ranks to start: "
                f"all {launched()[1]} have to within {START:g} seconds"
            )
            self.stderr.flush()

    def late(self, seconds: float) -> None:
        with redirect_stderr(self.stderr):
            complain(
                f"not all of the {launched()[1]} ranks have started within {seconds:g} seconds",
                "those are missing that do not say that they wait: the same command has to run on every host",
            )
            self.stderr.flush()

    def report(self, rank: int, failure: Failure) -> None:
        assert self.exchange is not None
        with redirect_stderr(self.stderr):
            complain(f"rank {rank} on {self.exchange.hosts[rank]}: {failure.message}", failure.help)


def check_batch(exchange: Exchange, batch: int) -> None:
    """Raise RunError if a batch has fewer shards than there are ranks."""
    shards, ranks = len(shards_of(batch)), exchange.size
    if shards < ranks:
        enough = batch
        while len(shards_of(enough)) < ranks:
            enough += 1
        raise RunError(
            f"a batch of {batch} images has {shards} shard{'s' * (shards > 1)}, too few for {ranks} ranks",
            f"start no more than {shards}, or set train.batch_size to {enough} or more",
        )


def check_alike(exchange: Exchange, spec: Spec, graph: Graph, data: Data, arguments: argparse.Namespace) -> None:
    """Raise RunError if ranks have different specs, data, versions or arguments, and would compute different things."""
    facts = {
        **{f"the data's {name}": checksum for name, checksum in data.checksums.items()},
        "--max-steps": arguments.max_steps,
        "--resume": bool(arguments.resume),
        "--no-test": arguments.no_test,
    }
    check_same(exchange, spec, graph, facts)


def check_same(exchange: Exchange, spec: Spec, graph: Graph, more: Mapping[str, object]) -> None:
    """Raise RunError if ranks differ in their specs, versions or processors, or in the facts in `more`."""
    facts = {
        "the spec": comparable(spec, graph),
        "train.epochs": spec.train.epochs if spec.train else None,
        **versions(),
        "platform": f"{platform.machine()} {' '.join(platform.libc_ver())}",
        **more,
    }
    found, hosts = exchange.tell(facts), exchange.tell(platform.node())
    for rank, other in enumerate(found):
        for name in {**found[0], **other}:
            first, second = found[0].get(name), other.get(name)
            if first != second:
                raise RunError(
                    f"rank {rank} on {hosts[rank]} would not compute what rank 0 on {hosts[0]} does: "
                    f"{name} {_difference(first, second)}",
                    "give all ranks the same files and installation, on processors of one kind or with --portable",
                )


def _difference(first: object, second: object) -> str:
    texts = str(first).splitlines(), str(second).splitlines()
    if max(map(len, texts)) == 1:
        return f"is {second}, not {first}"
    lines = list(difflib.unified_diff(*texts, lineterm="", n=0))[2:]
    return "differs:\n" + "\n".join(line for line in lines if not line.startswith("@@"))


def share_processors(exchange: Exchange, threads: int | None) -> int | None:
    """Divide the processors of a machine among its ranks, unless the launcher did; return a rank's workers.

    Their number is the requested one, or one for each of the rank's processors.
    """
    if exchange.size == 1:
        return threads
    usable = usable_processors()
    hosts = exchange.tell((platform.node(), usable))
    alike = [rank for rank, other in enumerate(hosts) if other == hosts[exchange.rank]]
    each, place = len(usable) // len(alike), alike.index(exchange.rank)
    if each and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, usable[place * each : (place + 1) * each])
    return threads or max(each, 1)
