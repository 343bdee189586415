"""What batches and augmentations cost a training: steps with them against steps on one batch, in alternation.

python tests/benchmarks/augmentation.py specs/lenet-mnist.yaml --data DIR
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnspec.api import Model, compile
from cnnspec.data import Data, Dataset, Order, open_data
from cnnspec.data.batches import Batches
from cnnspec.spec import load

VARIANTS = ("shift", "crop, flip", "cutout", "mixup", "rotate", "elastic", "shift, rotate, elastic")


class Case:
    """A network, and batches for it with and without one variant of augmentation.

    Both run in the same arrays: where those lie in memory makes a difference as large as what is measured here.
    """

    def __init__(self, spec: str, variant: str, data: Dataset, batch: int, threads: int | None) -> None:
        self.model = compile(load(spec, [f"data.augment=[{variant}]"]), threads=threads)
        assert self.model.spec.data is not None
        self.batches = Batches(
            dataset=data,
            order=Order(len(data), batch, 0),
            augmentations=self.model.spec.data.augment,
            outputs=self.model.graph.output.shape[0] if self.model.mixes_labels else None,
        )
        self.plain = replace(self.batches, augmentations=())
        self.times: dict[str, list[float]] = {"augmented": [], "plain": [], "bare": []}

    def round(self) -> None:
        """Seconds a step of one epoch of each: batches made ahead and copied to the plan; and on what lies there."""
        self.times["augmented"].append(self.epoch(self.batches))
        self.times["plain"].append(self.epoch(self.plain))
        self.times["bare"].append(self.epoch(None))

    def epoch(self, batches: Batches | None) -> float:
        order = self.batches.order
        plan, steps = self.model.plan(order.batch_size, "train"), order.count // order.batch_size
        started = time.perf_counter()
        if batches is None:
            for _ in range(steps):
                plan.step(0.0)
        else:
            with batches.epoch(0) as found:
                for made in found:
                    plan.images[...], plan.labels[...] = made.images, made.targets
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
    data = first(compile(load(arguments.spec)), arguments.data, arguments.batch * arguments.steps)
    print(f"{'':<24} {'ms a step':>9}  over batches alone (quartiles), batches alone over none")
    for variant in VARIANTS:
        case = Case(arguments.spec, variant, data, arguments.batch, arguments.threads)
        for _ in range(arguments.rounds):
            case.round()
        times = {name: np.array(seconds) for name, seconds in case.times.items()}
        low, middle, high = np.percentile(times["augmented"] / times["plain"], (25, 50, 75)) - 1
        print(
            f"{variant:<24} {np.median(times['augmented']) * 1e3:9.3f}  {middle:+6.1%} ({low:+.1%} to {high:+.1%}), "
            f"{np.median(times['plain'] / times['bare']) - 1:+.1%}"
        )


def first(model: Model, root: Path | None, count: int) -> Dataset:
    """The first training images of the spec's data."""
    assert model.spec.data is not None
    data: Data = open_data(model.spec.data, seed=0, data_dir=root)
    return Dataset(data.train.pixels[:count], data.train.labels[:count])


if __name__ == "__main__":
    main()
