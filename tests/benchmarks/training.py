"""Images a second in training, for a spec, batch sizes and numbers of threads; run it by hand on a quiet machine.

python tests/benchmarks/training.py specs/lenet-mnist.yaml --batch 64 --threads 1 2
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from cnnspec.api import Model, compile


def images_per_second(model: Model, batch: int, seconds: float) -> float:
    """Steps on random bytes, as many as fit."""
    plan = model.plan(batch, "train")
    random = np.random.default_rng(0)
    plan.images[...] = random.integers(0, 256, plan.images.shape)
    plan.labels[...] = random.integers(0, model.graph.output.shape[0], batch)
    for _ in range(3):
        plan.step(1e-4)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        plan.step(1e-4)
        steps += 1
    return steps * batch / (time.perf_counter() - started)


def main() -> None:
    """Measure every configuration in turn, several rounds, and print median and range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    cases = [(batch, threads) for batch in arguments.batch for threads in arguments.threads]
    models = {threads: compile(arguments.spec, threads=threads) for threads in arguments.threads}
    found: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    for _ in range(arguments.rounds):
        for batch, threads in cases:
            found[batch, threads].append(images_per_second(models[threads], batch, arguments.seconds))
    for (batch, threads), values in found.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"batch {batch:4}  threads {threads}: {middle:9,.0f} images/s ({low:,.0f} to {high:,.0f})")


if __name__ == "__main__":
    main()
