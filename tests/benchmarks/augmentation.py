"""What batches and augmentations cost a training: steps with them against steps on one batch, in alternation.

python tests/benchmarks/augmentation.py specs/lenet-mnist.yaml --data DIR
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from cnnspec.data import Data, Dataset, Order, open_data
from cnnspec.data.batches import Batches
from cnnspec.spec import load
from cnnspec.train import Model, compile

VARIANTS = ("", "shift", "crop, flip", "cutout", "mixup", "rotate", "elastic", "shift, rotate, elastic")


def epoch(model: Model, data: Dataset, batch: int) -> float:
    """Seconds a step of one epoch, batches made ahead and copied to the plan."""
    assert model.spec.data is not None
    batches = Batches(
        dataset=data,
        order=Order(len(data), batch, 0),
        augmentations=model.spec.data.augment,
        classes=model.graph.output.shape[0] if model.mixes_labels else None,
    )
    plan, steps, started = model.plan(batch, "train"), len(data) // batch, time.perf_counter()
    with batches.epoch(0) as found:
        for made in found:
            made.copy_to(plan.images, plan.labels, plan.shares)
            plan.step(0.0)
    return (time.perf_counter() - started) / steps


def bare(model: Model, steps: int, batch: int) -> float:
    """Seconds a step on whatever lies in the plan."""
    plan, started = model.plan(batch, "train"), time.perf_counter()
    for _ in range(steps):
        plan.step(0.0)
    return (time.perf_counter() - started) / steps


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("spec")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    models = {
        name: compile(load(arguments.spec, [f"data.augment=[{name}]"]), threads=arguments.threads) for name in VARIANTS
    }
    data = first(models[""], arguments.data, arguments.batch * arguments.steps)
    times: dict[str, list[float]] = {name: [] for name in ("bare", *VARIANTS)}
    for _ in range(arguments.rounds):
        times["bare"].append(bare(models[""], arguments.steps, arguments.batch))
        for name, model in models.items():
            times[name].append(epoch(model, data, arguments.batch))
    base = np.array(times[""])
    for name, seconds in times.items():
        ratios = np.array(seconds) / base  # of one round: what slows the machine down slows both
        low, middle, high = np.percentile(ratios, (25, 50, 75)) - 1
        print(
            f"{name or 'batches alone':<24} {np.median(seconds) * 1e3:8.3f} ms a step  {middle:+6.1%} "
            f"({low:+.1%} to {high:+.1%})"
        )


def first(model: Model, root: Path | None, count: int) -> Dataset:
    """The first training images of the spec's data."""
    assert model.spec.data is not None
    data: Data = open_data(model.spec.data, seed=0, data_dir=root)
    return Dataset(data.train.pixels[:count], data.train.labels[:count])


if __name__ == "__main__":
    main()
