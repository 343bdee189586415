"""A compiled network for one batch size and mode: programs of steps on static arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.plan.memory.arrays import Arrays
from cnnspec.plan.schedule.loss_check import LossCheck
from cnnspec.plan.state import Training, Weights
from cnnspec.workers import Program, WorkerPool


@dataclass(kw_only=True)
class Programs:
    """The programs of a plan; an inference plan has the first three, a training plan `prepare` and the last three."""

    prepare: Program  # computes the prepared arrays, which depend on parameters alone
    run: Program = ()  # a forward pass
    score: Program = ()  # predictions and losses, after `run`
    update: Program = ()  # a step: forward, backward, update of the weights, and `prepare` for the next step
    accumulate: Program = ()  # a step whose gradients are kept for a later update
    gradients: Callable[[], Program] | None = None  # makes the program that ends with the gradients, on demand


class Plan:
    """A compiled network: fill `images` (n, c, h, w) and `labels`, run, read `losses`, `predictions` and `output`.

    An inference plan has losses and predictions after `score` alone, and needs no labels without it.
    """

    def __init__(
        self,
        arrays: Arrays,
        weights: Weights,
        workers: WorkerPool,
        programs: Programs,
        training: Training | None = None,
        check: LossCheck | None = None,
    ) -> None:
        self.batch, self.mode, self.graph = arrays.batch, arrays.mode, arrays.graph
        self.arena, self.images, self.labels = arrays.arena, arrays.images, arrays.labels
        self.losses, self.predictions = arrays.losses, arrays.predictions
        self.loss = arrays.loss
        self.term_losses = arrays.term_losses  # by name: `losses` is their sum, each times its weight
        self.weights, self.workers, self.training = weights, workers, training
        self.block, self._outputs = arrays.block, arrays.outputs
        self._programs, self._check = programs, check
        self._gradients: Program | None = None
        self._prepared = -1  # the version of the weights that the prepared arrays were made from
        workers.learn(programs.prepare, programs.run, programs.score, programs.update, programs.accumulate)

    def compute(self) -> None:
        """Run one pass: forward, and in a training plan backward, up to the gradient of the mean loss.

        That gradient lies in the training's first flat array; the weights stay as they are.
        """
        self._prepare()
        self.workers.run(self._pass())

    def score(self) -> None:
        """Run a pass of an inference plan, with losses and predictions of labelled images."""
        self.compute()
        self.workers.run(self._programs.score)

    def step(self, rate: float, moment: float = 0.0) -> None:
        """Run one step of training at a learning rate: all shards' gradients, their sum and, if it is due, the update.

        `moment` counts the passes over the training images so far: parameters with a period are trained within it only.
        A loss that is not a number, or infinite, leaves the weights unchanged.
        """
        assert self.training is not None
        assert self._check is not None
        self._prepare()
        due = self.training.begin(rate, moment)
        self.workers.run(self._programs.update if due else self._programs.accumulate)
        self.weights.version += 1  # every pass changes the running statistics, and an update the parameters
        if due and self._check.finite:
            self.training.end()
        self._prepared = self.weights.version

    def _pass(self) -> Program:
        if self._programs.gradients is None:
            return self._programs.run
        if self._gradients is None:
            self._gradients = self._programs.gradients()
        return self._gradients

    def _prepare(self) -> None:
        """Compute the prepared arrays, unless they already match the current parameters."""
        if self._prepared != self.weights.version or self.block.user is not self or self.weights.exposed:
            self.workers.run(self._programs.prepare)
            self._prepared, self.block.user = self.weights.version, self

    @property
    def output(self) -> Array:
        """The network's output for the whole batch, images first, as a new array; a training plan reuses its memory."""
        assert self.mode == "infer"
        return np.concatenate(self._outputs) if len(self._outputs) > 1 else self._outputs[0].copy()
