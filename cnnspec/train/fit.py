"""The training loop: epochs of steps, with what happens handed to whoever watches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.data import Data, Order
from cnnspec.data.batches import Batch, Batches
from cnnspec.diagnostics import RunError
from cnnspec.train.model import Model, Score

Watcher = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an epoch stands: means over the epoch so far."""

    epoch: int
    step: int  # of this epoch, from 1
    steps: int
    images: int
    loss: float
    accuracy: float | None
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to. Training figures are means over its steps, while the weights changed."""

    epoch: int
    step: int  # steps since the start of training
    learning_rate: float
    train: Score
    validation: Score | None
    test: Score | None
    seconds: float  # of training, without evaluation
    images_per_second: float

    def metrics(self) -> dict[str, Any]:
        """A flat row, as metrics files hold it."""
        row: dict[str, Any] = {"epoch": self.epoch, "step": self.step, "learning_rate": self.learning_rate}
        for name, score in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            row[f"{name}.loss"] = score.loss if score else None
            row[f"{name}.accuracy"] = score.accuracy if score else None
        return {**row, "seconds": self.seconds, "images_per_second": self.images_per_second}


def fit(model: Model, data: Data, *, watch: Watcher | None = None, first_epoch: int = 1) -> Iterator[Epoch]:
    """Train as the model's spec says, one epoch at a time; RunError where the loss stops being a number.

    Images are reshuffled every epoch by the seed. Validation is scored after every epoch; where there is none, the
    test images are, so that a curve can be drawn. The last epoch scores the test images in any case.
    """
    settings = model.spec.train
    if settings is None:
        raise RunError("the spec has no train section", "add train: {epochs: 10}")
    order = Order(len(data.train), settings.batch_size, model.spec.seed)
    for epoch in range(first_epoch, settings.epochs + 1):
        yield _Pass(model, data, order, epoch, watch).run(last=epoch == settings.epochs)


class _Pass:
    """One epoch in the making."""

    def __init__(self, model: Model, data: Data, order: Order, epoch: int, watch: Watcher | None) -> None:
        assert model.spec.train is not None
        self.model, self.data, self.order, self.epoch, self.watch = model, data, order, epoch, watch
        self.settings = model.spec.train
        self.steps = math.ceil(len(data.train) / self.settings.batch_size)
        self.seen, self.right, self.total, self.rate = 0, 0, 0.0, 0.0
        self.judged = len(model.graph.output.shape) == 1 and not (model.loss and model.loss.reads_input)

    def run(self, *, last: bool) -> Epoch:
        started = time.perf_counter()
        with self.batches().epoch(self.epoch - 1) as batches:
            for number, batch in enumerate(batches):
                self.step(number, batch)
                if self.watch is not None:
                    self.watch(self.progress(number + 1, time.perf_counter() - started))
        seconds = time.perf_counter() - started
        progress = self.progress(self.steps, seconds)
        validation = self.model.score(self.data.validation) if self.data.validation else None
        return Epoch(
            epoch=self.epoch,
            step=self.epoch * self.steps,
            learning_rate=self.rate,
            train=Score(progress.loss, progress.accuracy, self.seen),
            validation=validation,
            test=self.model.score(self.data.test) if last or validation is None else None,
            seconds=seconds,
            images_per_second=progress.images_per_second,
        )

    def batches(self) -> Batches:
        assert self.model.spec.data is not None
        return Batches(
            dataset=self.data.train,
            order=self.order,
            augmentations=self.model.spec.data.augment,
            classes=self.model.graph.output.shape[0] if self.model.mixes_labels else None,
        )

    def step(self, number: int, batch: Batch) -> None:
        plan = self.model.plan(len(batch.labels), "train")
        batch.copy_to(plan.images, plan.labels, plan.shares)
        self.rate = self.settings.optimizer.learning_rate * self.settings.schedule.factor(
            self.epoch - 1 + number / self.steps, self.settings.epochs
        )
        plan.step(self.rate)
        loss = float(plan.losses.sum(dtype=np.float64))
        if not math.isfinite(loss):
            step, became = (
                (self.epoch - 1) * self.steps + number + 1,
                "not a number" if math.isnan(loss) else "infinite",
            )
            raise RunError(
                f"the loss became {became} at step {step} (epoch {self.epoch})",
                f"lower the learning rate (it was {self.rate:g}), or add warm-up; the last good checkpoint was kept",
            )
        self.seen += len(batch.labels)
        self.total += loss
        if plan.predictions is not None:
            self.right += int(np.count_nonzero(plan.predictions == plan.labels))

    def progress(self, step: int, seconds: float) -> Progress:
        count = max(self.seen, 1)
        return Progress(
            epoch=self.epoch,
            step=step,
            steps=self.steps,
            images=self.seen,
            loss=self.total / count,
            accuracy=self.right / count if self.judged else None,
            images_per_second=self.seen / max(seconds, 1e-9),
        )
