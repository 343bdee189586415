"""What many ranks would do: the exchanges of a plan, priced by a measured latency and bandwidth.

python tests/benchmarks/scaling.py specs/resnet20.yaml --batch 128

Measures the time of a step of one rank, and of messages between two (by mpiexec), always the fastest of many, as others
may use the machine too. Asks the plan for 2, 4, 8 and more ranks what it exchanges in a step, every rank with as many
images, and predicts the step; compares with steps of 2 and 4 ranks on this machine, and goes on to ranks that are not
there, with messages as fast as here and as a network carries them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

import numpy as np

from cnnspec.api import Model
from cnnspec.check import checked
from cnnspec.kernels.step import Array
from cnnspec.ranks import ALONE, Exchange
from cnnspec.ranks.launch import join, launched
from cnnspec.spec import load
from tests.benchmarks.turns import plan_of

POSTED = 1e-6  # seconds to post one of many messages, as a guess: two processes cannot show it
MEGABYTE = 1 << 20
BAR = 40  # letters of an efficiency of 1


@dataclass(frozen=True)
class Operation:
    """One exchange of a step: messages one after the other, messages at once, and the bytes that a rank takes."""

    rounds: int
    messages: int
    taken: int


@dataclass(frozen=True)
class Link:
    """What joins ranks: seconds for a small message, and bytes a second."""

    latency: float
    bandwidth: float

    def seconds(self, operation: Operation) -> float:
        """How long an exchange takes."""
        return operation.rounds * self.latency + operation.messages * POSTED + operation.taken / self.bandwidth


class Counting(Exchange):
    """Rank 0 of many that are not there: notes what it would exchange."""

    rank = 0

    def __init__(self, size: int) -> None:
        self.size = size
        self.operations: list[Operation] = []

    def gather(self, array: Array, counts: Sequence[int]) -> None:
        """Note an array that all complete, by doubling what each has."""
        taken = (sum(counts) - counts[self.rank]) * array.itemsize
        self.operations.append(Operation(ceil(log2(self.size)), 0, taken))

    def trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        """Note what all ranks send to this one at once."""
        self.operations.append(Operation(1, self.size - 1, sum(take[1:]) * taken.itemsize))


def exchanged(spec_path: str, batch: int, ranks: int) -> list[Operation]:
    """What one rank of many exchanges in a step."""
    spec, counting = load(spec_path), Counting(ranks)
    plan = plan_of(Model(spec, checked(spec), threads=1, exchange=counting), batch * ranks)
    counting.operations.clear()
    plan.step(1e-4)
    return counting.operations


def steps(spec_path: str, batch: int, count: int) -> list[float]:
    """The seconds of steps of this process, alone or as one of the ranks that a launcher has started."""
    exchange = join() if launched()[1] > 1 else ALONE
    spec = load(spec_path)
    plan = plan_of(Model(spec, checked(spec), threads=1, exchange=exchange), batch * exchange.size)
    found = []
    for _ in range(count):
        started = time.perf_counter()
        plan.step(1e-4)
        found.append(time.perf_counter() - started)
    return found if exchange.rank == 0 else []


def link() -> Link:
    """The latency and bandwidth between two ranks that a launcher has started."""
    exchange = join()

    def seconds(length: int, count: int) -> float:
        array = np.zeros(2 * length, np.uint8)
        found = []
        for _ in range(count):
            started = time.perf_counter()
            exchange.gather(array, [length, length])
            found.append(time.perf_counter() - started)
        return min(found)

    latency = seconds(8, 2000)
    return Link(latency, MEGABYTE / (seconds(MEGABYTE, 500) - latency))


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
    here = Link(*of_ranks(2, [*words, "link"]))
    print(f"load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} processors")
    print(f"between two ranks here: {1e6 * here.latency:.0f} us, {here.bandwidth / 1e9:.1f} GB/s")
    alone = min(of_ranks(1, [*words, "steps"]))
    print(f"{Path(arguments.spec).name}, {arguments.batch} images a rank: {1000 * alone:.2f} ms a step alone")
    links = {"here": here, "10 Gbit/s, 20 us": Link(20e-6, 1.2e9), "100 Gbit/s, 3 us": Link(3e-6, 12e9)}
    ranks = 2
    while ranks <= arguments.most:
        operations = exchanged(arguments.spec, arguments.batch, ranks)
        taken = sum(operation.taken for operation in operations)
        print(f"{ranks} ranks: {len(operations)} exchanges, {taken / 1e6:.2f} MB taken by each in a step")
        if ranks <= 4:
            busy = max(1.0, ranks / (os.cpu_count() or 1))  # ranks that share a processor take turns
            measured_steps = min(of_ranks(ranks, [*words, "steps"]))
            predicted = busy * alone + sum(map(here.seconds, operations))
            print(f"  predicted {1000 * predicted:.2f} ms, measured {1000 * measured_steps:.2f} ms")
        for name, one in links.items():
            exchange = sum(map(one.seconds, operations))
            efficiency = alone / (alone + exchange)
            bar = "#" * round(BAR * efficiency)
            print(f"  {name:18} {1000 * exchange:8.2f} ms of exchange  {efficiency:5.2f} {bar}")
        ranks *= 2


if __name__ == "__main__":
    main()
