"""The training loop: epochs of steps, from any step on, with a callback after every step."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, Protocol

import numpy as np

from cnnspec.data import Dataset, Order, Pipeline
from cnnspec.data.batches import Batch, Batches
from cnnspec.diagnostics import RunError
from cnnspec.kernels.blas import one_blas_thread
from cnnspec.kernels.portable import require_level
from cnnspec.optim import TrainSettings
from cnnspec.plan import Plan, images_of_ranks
from cnnspec.target import KINDS, Target
from cnnspec.train.diagnose import guilty_layer
from cnnspec.train.first_filters import learn_first_filters
from cnnspec.train.network import Network
from cnnspec.train.score import Score, asked_answers, right_answers, right_images
from cnnspec.train.statistics import measure_statistics
from cnnspec.train.transfer import transfer


@dataclass(frozen=True, slots=True)
class Position:
    """The state of the loop that a resumed run needs to continue at the next step."""

    epoch: int = 1  # the number of the current epoch, from 1
    done: int = 0  # steps of this epoch that are done
    images: int = 0  # images of this epoch so far; below, the sums of their losses and right answers
    loss: float = 0.0
    right: float | None = 0  # None if outputs are values, neither right nor wrong
    step: int = 0  # steps since the start of training


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an epoch; figures are means over the epoch so far."""

    position: Position
    steps: int  # the number of steps of an epoch
    step_loss: float  # the mean over the images of the last step
    accuracy: float | None
    images_per_second: float
    asked: int  # the signal by which any rank was asked to end, or 0

    @property
    def loss(self) -> float:
        """The mean loss over the epoch so far."""
        return self.position.loss / max(self.position.images, 1)


@dataclass(frozen=True, slots=True)
class Epoch:
    """The results of one epoch. Training figures are means over its steps, during which the weights changed."""

    epoch: int
    position: Position  # the position after it, where training continues
    learning_rate: float
    train: Score
    validation: Score | None
    test: Score | None
    seconds: float  # of training, without evaluation
    images_per_second: float
    weights: str  # the fingerprint of parameters, statistics and averages

    @property
    def step(self) -> int:
        """Steps since the start of training."""
        return self.position.step

    @property
    def whole(self) -> bool:
        """Whether the epoch was completed, not cut short."""
        return self.position.done == 0

    def metrics(self) -> dict[str, Any]:
        """The results as a flat row of the metrics files."""
        row: dict[str, Any] = {"epoch": self.epoch, "step": self.step, "learning_rate": self.learning_rate}
        for name, score in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            row |= {intern(f"{name}.{figure}"): getattr(score, figure, None) for figure in ("loss", "accuracy")}
        scored = self.validation or self.test  # at least one exists; its figures are those of both
        for name, score in (("validation", self.validation), ("test", self.test)):
            found = {} if score is None else score.figures()
            figures = () if scored is None else scored.figures()
            row |= {intern(f"{name}.{figure}"): found.get(figure) for figure in figures if figure != "loss"}
        speed = {"seconds": self.seconds, "images_per_second": self.images_per_second}
        return {**row, **speed, "weights": self.weights}


Watcher = Callable[[Progress], None]


class Splits(Protocol):
    """The images that a network is trained and scored on: `Data` of a source, or arrays of a caller.

    Without a pipeline, images are numbers that enter the network unchanged.
    """

    @property
    def train(self) -> Dataset:
        """The images that it learns from."""

    @property
    def validation(self) -> Dataset | None:
        """The images that are scored after every epoch."""

    @property
    def test(self) -> Dataset | None:
        """The images that are scored at the end."""

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that prepared the images."""

    @property
    def target(self) -> Target:
        """The kind of their labels, with the names of classes."""


def fit(
    model: Network,
    data: Splits,
    *,
    watch: Watcher | None = None,
    start: Position | None = None,
    history: Iterable[Mapping[str, Any]] = (),
    max_steps: int | None = None,
    tests: bool = True,
    asked: Callable[[], int] = int,
) -> Iterator[Epoch]:
    """Train as the model's spec says, one epoch at a time; RunError where the loss stops being a number.

    Images are reshuffled every epoch by the seed. Validation images are scored after every epoch; without them, the
    test images are, so that a curve can be drawn. The last epoch scores the test images in any case. `watch` is called
    after every step; an exception in it ends the training. `start` and `history`, the rows of the earlier epochs,
    continue a training; `max_steps` cuts it short, with an epoch of the steps that were done. Without `tests` the test
    images are not scored. After every step all ranks exchange the results of `asked`, such as the number of a signal.
    If no step is left, no epoch is yielded. RunError too if the spec is portable and this process does not compute at
    the portable level.
    """
    settings = model.spec.train
    if settings is None:
        raise RunError("the spec has no train section", "add train: {epochs: 10}")
    if model.spec.portable:
        require_level()
    model.adopt(data.target)
    if data.pipeline is not None:
        model.pipeline = data.pipeline
    balanced = model.spec.data is not None and model.spec.data.train.sampling == "balanced"
    if balanced and data.target.kind != "class":
        raise RunError(
            f"data.train.sampling: balanced needs one class an image, the target is {KINDS[data.target.kind]}",
            "leave sampling out",
        )
    classes = np.asarray(data.train.labels) if balanced else None
    order = Order(len(data.train), settings.batch_size, model.spec.seed, classes)
    position, rules = start or Position(), _Rules(settings)
    for row in history:
        rules.see(row)
    if model.training is not None and not model.training.clock:
        learn_first_filters(model, data.train)
        transfer(model)
    most = settings.steps(len(data.train))
    most = most if max_steps is None else min(most, max_steps)
    while position.step < most and not rules.is_over:
        epoch = _Pass(model, data, order, position, watch, most, tests, asked).run(rules)
        yield epoch
        position = epoch.position


class _Rules:
    """The rules that look at the metrics of every epoch: the schedule, which may lower the rate, and early stopping."""

    def __init__(self, settings: TrainSettings) -> None:
        self.falls, stopping = settings.schedule.falls(), settings.early_stopping
        self.stopping = None if stopping is None else stopping.watch()

    def see(self, row: Mapping[str, Any]) -> None:
        self.falls.see(row)
        if self.stopping is not None:
            self.stopping.see(row)

    @property
    def is_over(self) -> bool:
        return self.stopping is not None and self.stopping.is_over


class _Pass:
    """Trains one epoch, from any step on, and scores it."""

    def __init__(
        self,
        model: Network,
        data: Splits,
        order: Order,
        position: Position,
        watch: Watcher | None,
        most: int,
        tests: bool,
        asked: Callable[[], int],
    ) -> None:
        assert model.spec.train is not None
        self.model, self.data, self.order, self.position, self.watch = model, data, order, position, watch
        self.settings, self.most, self.tests = model.spec.train, most, tests
        self.ask, self.asked = asked, 0
        self.steps = math.ceil(len(data.train) / self.settings.batch_size)

    def run(self, rules: _Rules) -> Epoch:
        with one_blas_thread:
            return self._run(rules)

    def _run(self, rules: _Rules) -> Epoch:
        started, before = time.perf_counter(), self.position
        fallen = rules.falls.factor
        with self.batches().epoch(before.epoch - 1, before.done) as batches:
            for batch in batches:
                if self.position.step >= self.most:
                    break
                loss = self.step(batch, fallen)
                if self.position.done == self.steps:
                    self.add_to_mean()  # before `watch`, so that a checkpoint after the last step includes it
                if self.watch is not None:
                    self.watch(self.progress(loss, before, started))
        seconds = time.perf_counter() - started
        progress, position = self.progress(0.0, before, started), self.position
        with self.model.averaged():
            validation = self.model.score(self.data.validation) if self.data.validation else None
        train = Score(progress.loss, position.images, progress.accuracy)
        row = {"train.loss": train.loss, "train.accuracy": train.accuracy}
        if validation is not None:
            row |= {f"validation.{figure}": value for figure, value in validation.figures().items()}
        rules.see(row)
        last = position.step >= self.most or rules.is_over
        is_complete = position.done == self.steps
        return Epoch(
            epoch=position.epoch,
            position=Position(epoch=position.epoch + 1, step=position.step) if is_complete else position,
            learning_rate=self.rate(position.done - 1, fallen),
            train=train,
            validation=validation,
            test=self.test() if self.tests and (last or validation is None) else None,
            seconds=seconds,
            images_per_second=progress.images_per_second,
            weights=self.model.fingerprint(),
        )

    def add_to_mean(self) -> None:
        """Include the weights at the end of an epoch in the mean of stochastic weight averaging."""
        training, swa = self.model.training, self.settings.swa
        if swa is None or training is None or self.position.epoch <= swa.after:
            return
        training.add_to_mean()
        with training.averaged():
            measure_statistics(self.model, self.data.train, self.settings.batch_size)

    def test(self) -> Score | None:
        with self.model.averaged():
            return self.model.score(self.data.test) if self.data.test is not None else None

    def batches(self) -> Batches:
        ranks, settings = self.model.exchange, self.model.spec.data
        return Batches(
            dataset=self.data.train,
            order=self.order,
            augmentations=() if settings is None else settings.augment,
            outputs=self.model.graph.output.shape[0] if self.model.mixes_labels else None,
            own=lambda count: images_of_ranks(count, ranks.size)[ranks.rank],
        )

    def step(self, batch: Batch, fallen: float) -> float:
        """Train one step, and return the mean loss of its images."""
        position = self.position
        plan = self.model.plan(batch.count, "train", self.model.kind_of(batch.images))
        plan.images[...] = batch.images
        if plan.labels.ndim == batch.targets.ndim:
            plan.labels[...] = self.model.target.scaled(batch.targets)
        rate = self.rate(position.done, fallen)
        if self.model.training is not None:
            self.model.training.norms.watched.fill(self.is_last_update(position))
        plan.step(rate, self.moment(position.done))
        loss = float(plan.losses.sum(dtype=np.float64))
        if not math.isfinite(loss):
            raise self.diverged(loss, batch, rate)
        right = self.tell(plan, batch)
        self.position = dataclasses.replace(
            position,
            done=position.done + 1,
            images=position.images + batch.count,
            loss=position.loss + loss,
            right=None if right is None or position.right is None else position.right + right,
            step=position.step + 1,
        )
        return loss / batch.count

    def is_last_update(self, position: Position) -> bool:
        """Whether the step at that position contributes to the last update of the epoch."""
        left = min(self.steps - position.done, self.most - position.step)
        return left <= self.settings.accumulate

    def tell(self, plan: Plan, batch: Batch) -> float | None:
        """Exchange right answers and signals between ranks after a step; return how many images are answered right."""
        counts, predictions = (0, 0), plan.predictions
        if predictions is not None:
            counts = right_answers(predictions, batch.labels), asked_answers(batch.labels, predictions.shape[1:])
        totals = self.model.exchange.numbers(*counts, self.ask())
        self.asked = max(signal for _, _, signal in totals)
        if predictions is None:
            return None
        if len(plan.images) == plan.batch:  # each rank has the whole batch
            totals = totals[:1]
        return right_images(sum(row[0] for row in totals), batch.count, sum(row[1] for row in totals))

    def rate(self, done: int, fallen: float) -> float:
        """Return the learning rate of the epoch's step after `done` others."""
        factor = self.settings.schedule.factor(self.moment(done), self.settings.epochs)
        return float(self.settings.optimizer.learning_rate * factor * fallen)

    def moment(self, done: int) -> float:
        """Return the passes over the training images before the epoch's step after `done` others."""
        return self.position.epoch - 1 + done / self.steps

    def diverged(self, loss: float, batch: Batch, rate: float) -> RunError:
        became = "not a number" if math.isnan(loss) else "infinite"
        layers = self.model.exchange.tell(guilty_layer(self.model, batch.images))
        layer = next((layer for layer in layers if layer), None)
        where = f", first in {layer}" if layer else ""
        return RunError(
            f"the loss became {became} at step {self.position.step + 1} (epoch {self.position.epoch}){where}",
            f"lower the learning rate (it was {rate:g}), or add warm-up; the last good checkpoint was kept",
        )

    def progress(self, loss: float, before: Position, started: float) -> Progress:
        position, seconds = self.position, time.perf_counter() - started
        return Progress(
            position=position,
            steps=self.steps,
            step_loss=loss,
            accuracy=None if position.right is None else position.right / max(position.images, 1),
            images_per_second=(position.images - before.images) / max(seconds, 1e-9),
            asked=self.asked,
        )
