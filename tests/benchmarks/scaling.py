"""What many ranks would do: the exchanges of a plan, priced by a measured latency and bandwidth.

python tests/benchmarks/scaling.py specs/resnet20.yaml --batch 128

Measures the time of a step of one rank, and of messages between two (by mpiexec), always the fastest of many, as others
may use the machine too. Runs the step of the first of 2, 4, 8 and more ranks, each with as many images, without the
others: what it computes takes a processor's time, and what it exchanges the time that a link would. Compares with
steps of 2 and 4 ranks on this machine, and goes on to ranks that are not there, with messages as fast as here and as a
network carries them.

Between processes of one machine the processors move the messages, which adds to what they compute. A network moves them
meanwhile, one after the other, and a rank waits for those that have not come when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2
from pathlib import Path

import numpy as np

from cnnspec.api import Model
from cnnspec.check import checked
from cnnspec.kernels.step import Array
from cnnspec.ranks import SINGLE_RANK, Exchange, Operation
from cnnspec.ranks.launch import join, launched
from cnnspec.spec import load
from tests.benchmarks.turns import plan_of

POSTED = 1e-6  # seconds to post one of many messages, as a guess: two processes cannot show it
MEGABYTE = 1 << 20
BAR = 40  # letters of a step that is computing alone


@dataclass(frozen=True)
class Messages:
    """What one operation sends: messages one after the other, messages at once, and the bytes that a rank takes."""

    rounds: int
    at_once: int
    taken: int


@dataclass(frozen=True)
class Link:
    """What joins ranks: seconds for a small message, and bytes a second."""

    latency: float
    bandwidth: float
    beside: bool = True  # whether messages travel while the processors compute

    def seconds(self, messages: Messages) -> float:
        """How long an operation takes."""
        return messages.rounds * self.latency + messages.at_once * POSTED + messages.taken / self.bandwidth


@dataclass(frozen=True)
class Event:
    """The begin or the end of an operation of a step, and the seconds of computing before it."""

    seconds: float
    operation: Noted | None  # None at the end of the step
    begins: bool = False


class Noted(Operation):
    """An operation that nobody else takes part in: the exchange notes when it is begun and ended."""

    def __init__(self, exchange: Noting, messages: Messages) -> None:
        self.exchange, self.messages = exchange, messages

    def begin(self) -> None:
        """Note the begin."""
        self.exchange.note(self, begins=True)

    def end(self) -> None:
        """Note the end."""
        self.exchange.note(self)


class Noting(Exchange):
    """The first of many ranks, the others of which are not there: notes what it would exchange, and when."""

    rank = 0

    def __init__(self, size: int) -> None:
        self.size = size
        self.events: list[Event] = []
        self.before = time.process_time()

    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        """Complete an array by doubling what each rank has."""
        taken = (sum(counts) - counts[self.rank]) * array.itemsize
        return Noted(self, Messages(ceil(log2(self.size)), 0, taken))

    def trading(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> Operation:
        """Send what all ranks send to this one at once."""
        from_others = sum(take) - take[self.rank]
        return Noted(self, Messages(1, self.size - 1, from_others * taken.itemsize))

    def advance(self) -> None:
        """Do nothing."""

    def note(self, operation: Noted | None, *, begins: bool = False) -> None:
        """Note an event, and the time since the last one."""
        self.events.append(Event(time.process_time() - self.before, operation, begins))
        self.before = time.process_time()


def noted(spec_path: str, batch: int, ranks: int, count: int) -> list[Event]:
    """The step of the first of many ranks, where each time between two events is the shortest of several steps."""
    spec, exchange = load(spec_path), Noting(ranks)
    plan = plan_of(Model(spec, checked(spec), threads=1, exchange=exchange), batch * ranks)
    found = []
    for _ in range(count):
        exchange.events, exchange.before = [], time.process_time()
        plan.step(1e-4)
        exchange.note(None)
        found.append(exchange.events)
    return [replace(same[0], seconds=min(event.seconds for event in same)) for same in zip(*found, strict=True)]


def predicted(events: Sequence[Event], link: Link, busy: float = 1.0) -> float:
    """The seconds of a step, of which computing takes `busy` times as long where ranks share a processor."""
    clock = free = 0.0  # the time, and when the link has carried all that was begun
    over: dict[Noted, float] = {}
    for event in events:
        clock += event.seconds * busy
        if event.operation is None:
            continue
        seconds = link.seconds(event.operation.messages)
        if not link.beside:
            clock += seconds * event.begins
        elif event.begins:
            free = over[event.operation] = max(free, clock) + seconds
        else:
            clock = max(clock, over[event.operation])
    return clock


def steps(spec_path: str, batch: int, count: int) -> list[float]:
    """The seconds of steps of this rank: those of its processor where it is alone, and those that pass with others."""
    exchange = join(lambda: None, print) if launched()[1] > 1 else SINGLE_RANK
    spec, now = load(spec_path), time.process_time if exchange.size == 1 else time.perf_counter
    plan = plan_of(Model(spec, checked(spec), threads=1, exchange=exchange), batch * exchange.size)
    found = []
    for _ in range(count):
        started = now()
        plan.step(1e-4)
        found.append(now() - started)
    return found if exchange.rank == 0 else []


def link() -> Link:
    """The latency and bandwidth between two ranks that a launcher has started."""
    exchange = join(lambda: None, print)

    def seconds(length: int, count: int) -> float:
        array = np.zeros(2 * length, np.uint8)
        found = []
        for _ in range(count):
            started = time.perf_counter()
            exchange.gather(array, [length, length])
            found.append(time.perf_counter() - started)
        return min(found)

    latency = seconds(8, 2000)
    return Link(latency, MEGABYTE / (seconds(MEGABYTE, 500) - latency), beside=False)


def of_ranks(ranks: int, words: Sequence[str]) -> list[float]:
    """What a program prints that a launcher starts."""
    command = [sys.executable, __file__, *words]
    if ranks > 1:
        command = ["mpiexec", "-n", str(ranks), *command]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: list[float] = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    """Measure, predict, compare, and go on to more ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--batch", type=int, default=128, help="images of each rank")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--most", type=int, default=64, help="ranks up to which the plan is asked")
    parser.add_argument("--as", dest="part", choices=("steps", "link"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        measured = link() if arguments.part == "link" else None
        found = (
            [measured.latency, measured.bandwidth]
            if measured
            else steps(arguments.spec, arguments.batch, arguments.steps)
        )
        if launched()[0] == 0:
            print(json.dumps(found))
        return
    words = [arguments.spec, "--batch", str(arguments.batch), "--steps", str(arguments.steps), "--as"]
    latency, bandwidth = of_ranks(2, [*words, "link"])
    here = Link(latency, bandwidth, beside=False)
    print(f"load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} processors")
    print(f"between two ranks here: {1e6 * here.latency:.0f} us, {here.bandwidth / 1e9:.1f} GB/s")
    alone = min(of_ranks(1, [*words, "steps"]))
    print(f"{Path(arguments.spec).name}, {arguments.batch} images a rank: {1000 * alone:.2f} ms a step alone")
    links = {"here": here, "10 Gbit/s, 20 us": Link(20e-6, 1.2e9), "100 Gbit/s, 3 us": Link(3e-6, 12e9)}
    ranks = 2
    while ranks <= arguments.most:
        events = noted(arguments.spec, arguments.batch, ranks, arguments.steps)
        begun = [event.operation.messages for event in events if event.operation is not None and event.begins]
        taken = sum(messages.taken for messages in begun)
        print(f"{ranks} ranks: {len(begun)} exchanges, {taken / 1e6:.2f} MB taken by each in a step")
        if ranks <= 4:
            busy = max(1.0, ranks / (os.cpu_count() or 1))  # ranks that share a processor take turns
            seconds = predicted(events, here, busy)
            measured_steps = min(of_ranks(ranks, [*words, "steps"]))
            print(f"  predicted {1000 * seconds:.2f} ms, measured {1000 * measured_steps:.2f} ms")
        for name, one in links.items():
            seconds = predicted(events, one)
            share = sum(event.seconds for event in events) / seconds
            print(f"  {name:18} {1000 * seconds:8.2f} ms a step  {share:5.2f} {'#' * round(BAR * share)}")
        ranks *= 2


if __name__ == "__main__":
    main()
