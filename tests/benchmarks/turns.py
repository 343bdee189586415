"""Images a second in training by processes that take turns, so that all of them meet the same machine.

python tests/benchmarks/turns.py specs/resnet20.yaml batch=128 batch=256,ranks=2 batch=128,portable=1

Each way to train is a batch size, and if it says so, threads, ranks (by mpiexec) and the portable level of
instructions. In each round every one trains for a slice of time; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cnnspec.api import Model
from cnnspec.check import checked
from cnnspec.cli.ranks import share_processors
from cnnspec.kernels.portable import pinning
from cnnspec.plan import Plan
from cnnspec.ranks import SINGLE_RANK
from cnnspec.ranks.launch import join, launched
from cnnspec.spec import load

SLICE = 0.5  # seconds of a turn


def plan_of(model: Model, batch: int) -> Plan:
    """A plan with random bytes in it, and the first steps behind it."""
    plan = model.plan(batch, "train")
    random = np.random.default_rng(0)
    plan.images[...] = random.integers(0, 256, plan.images.shape)
    plan.labels[...] = random.integers(0, model.graph.output.shape[0], plan.labels.shape)
    for _ in range(3):
        plan.step(1e-4)
    return plan


def train(spec_path: str, way: Mapping[str, int], turns: Path) -> None:
    """Train for a slice of time whenever the file `turns` has grown by a byte, and print images a second.

    All ranks look at the file, and rest between two looks: one that waited for a message would take others' time.
    """
    exchange = join(lambda: None, print) if launched()[1] > 1 else SINGLE_RANK
    spec, batch = load(spec_path), way["batch"]
    threads = share_processors(exchange, way.get("threads", 1))
    plan = plan_of(Model(spec, checked(spec), threads=threads, exchange=exchange), batch)
    started = time.perf_counter()
    for _ in range(5):
        plan.step(1e-4)
    pace = exchange.tell((time.perf_counter() - started) / 5)[0]
    if exchange.rank == 0:
        print("ready", flush=True)
    for turn in count(1):
        while turns.exists() and turns.stat().st_size < turn:
            time.sleep(0.005)
        if not turns.exists():
            return
        exchange.tell(None)
        steps, started = max(1, round(SLICE / pace)), time.perf_counter()
        for _ in range(steps):
            plan.step(1e-4)
        pace = exchange.tell((time.perf_counter() - started) / steps)[0]
        if exchange.rank == 0:
            print(batch / pace, flush=True)


class Way:
    """A process that trains in one way whenever it is asked to."""

    def __init__(self, spec: str, text: str, turns: Path) -> None:
        self.text, self.turns = text, turns
        turns.touch()
        way = {name: int(value) for name, value in (part.split("=") for part in text.split(","))}
        command = [sys.executable, __file__, spec, text, "--train", str(turns)]
        if way.get("ranks", 1) > 1:
            command = ["mpiexec", "-n", str(way["ranks"]), *command]
        environment = {**os.environ, **(pinning() if way.get("portable") else {})}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self._line()

    def images_per_second(self) -> float:
        """What one slice came to."""
        with self.turns.open("a") as file:
            file.write(".")
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def main() -> None:
    """Let all ways take turns, and print median, range and the ratio to the first one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("ways", nargs="+", metavar="batch=N[,threads=N][,ranks=N][,portable=1]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        pairs = (part.split("=") for part in arguments.ways[0].split(","))
        train(arguments.spec, {name: int(value) for name, value in pairs}, arguments.train)
        return
    with TemporaryDirectory() as folder:
        ways = [Way(arguments.spec, text, Path(folder) / str(number)) for number, text in enumerate(arguments.ways)]
        rounds = [[way.images_per_second() for way in ways] for _ in range(arguments.rounds)]
    print(f"load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} processors")
    for way, values in zip(ways, zip(*rounds, strict=True), strict=True):
        ratios = [value / first for value, (first, *_) in zip(values, rounds, strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(
            f"{way.text:40} {statistics.median(values):9,.0f} images/s   "
            f"{middle:.2f} of the first ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
