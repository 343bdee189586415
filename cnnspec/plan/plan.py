"""A compiled network for one batch size and mode: phases of tasks on static arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode
from cnnspec.plan.gate import Gate
from cnnspec.plan.memory import Block
from cnnspec.plan.update import Training
from cnnspec.plan.weights import Weights
from cnnspec.workers import Phase, WorkerPool


@dataclass(kw_only=True)
class Plan:
    """Fill `images` (n, c, h, w) and `labels`, then run; results are in `losses`, `predictions` and `output`.

    An inference plan has no losses and predictions before `score`, and needs no labels without it.

    A plan whose labels enter as shares wants `shares` (classes, n) filled too: the loss reads them, and not the labels.
    """

    batch: int
    mode: Mode
    arena: Array
    block: Block  # what the arena lies in
    images: Array
    labels: Array
    shares: Array | None
    losses: Array
    predictions: Array | None
    outputs: Sequence[Array]  # of each shard, n first, views
    prepare: Sequence[Phase]
    phases: Sequence[Phase]
    judge: Sequence[Phase]  # losses and predictions, where they are no part of the pass
    eager: Sequence[Phase]  # a pass with the update and what the next one wants prepared, where one does not wait
    gate: Gate  # which an eager pass asks
    gather: Sequence[Phase]  # instead of `update` in steps that only add up gradients
    update: Sequence[Phase]
    weights: Weights
    team: WorkerPool
    training: Training | None
    _prepared: int = field(default=-1, init=False)  # the version of the weights that was prepared

    def __post_init__(self) -> None:
        self.team.learn(self.prepare, self.phases, self.judge, self.eager, self.gather, self.update)

    def compute(self) -> None:
        """One pass: forward, and in a training plan the loss and the gradient of every shard."""
        self._ready()
        self.team.run(self.phases)

    def _ready(self) -> None:
        if self._prepared != self.weights.version or self.block.user is not self:
            self.team.run(self.prepare)
            self._prepared, self.block.user = self.weights.version, self

    def score(self) -> None:
        """A pass of an inference plan, with losses and predictions."""
        self.compute()
        self.team.run(self.judge)

    def step(self, rate: float) -> None:
        """One step of training at a learning rate: pass, sum of the shards' gradients, update.

        A loss that is not a number, or infinite, leaves the weights as they were.
        """
        if not self.eager:
            self.gradients()
            if self.gate.check():
                self.apply(rate)
            return
        assert self.training is not None
        self.training.tick()
        self.training.begin(rate)
        self._ready()
        self.team.run(self.eager)
        if self.gate.good:
            self.training.end()
            self._prepared = self.weights.version

    def gradients(self) -> None:
        """The first half of a step: losses and gradients; the clock moves on."""
        assert self.training is not None
        self.training.tick()
        self.compute()

    def apply(self, rate: float) -> None:
        """The second half: sum the shards' gradients and update the weights."""
        assert self.training is not None
        self.training.begin(rate)
        if not self.training.due:
            self.team.run(self.gather)
            return
        self.team.run(self.update)
        self.training.end()

    @property
    def output(self) -> Array:
        """The network's output for the whole batch, n first, as a fresh array; training gives its memory away."""
        assert self.mode == "infer"
        return np.concatenate(self.outputs) if len(self.outputs) > 1 else self.outputs[0].copy()
