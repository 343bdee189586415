"""What trainings are compared by, and this library's way to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import cnnspec
from cnnspec.graph import Graph
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode
from cnnspec.optim.optimizers import Sgd
from cnnspec.optim.settings import Clip
from cnnspec.spec import Spec
from tests.equality import values

# the plan of a model for a batch size and a mode, whose images are float64
Plans = Callable[[Any, int, Mode], Any]


@dataclass(frozen=True)
class Setup:
    """A network, and how it is trained."""

    spec: Spec
    graph: Graph
    batch: int
    steps: int = 1

    @property
    def rate(self) -> float:
        """The optimizer's learning rate."""
        assert self.spec.train is not None
        return float(self.spec.train.optimizer.learning_rate)

    @property
    def reads_input(self) -> bool:
        """Whether the network's input is the target."""
        return bool(self.spec.train and self.spec.train.loss.reads_input)

    def labels(self, step: int) -> Array:
        """The labels of a step; all are 0 where the network's input is the target."""
        return values.labels(step, self.batch, 1 if self.reads_input else self.graph.output.shape[0])

    def with_training(self, **changes: Any) -> Setup:
        """The same network with other settings of its training."""
        assert self.spec.train is not None
        return replace(self, spec=replace(self.spec, train=self.spec.train.but(**changes)))

    def plain(self) -> Setup:
        """One step that takes the gradient from the weights and does nothing else."""
        nodes = tuple(replace(node, weight_decay=None) for node in self.graph.nodes)
        same = replace(self, graph=replace(self.graph, nodes=nodes), steps=1)
        return same.with_training(
            optimizer=Sgd(learning_rate=1.0), clip=Clip(), accumulate=1, ema=None, lookahead=None, swa=None
        )


@dataclass(frozen=True)
class Result:
    """The outcome of some steps of training; outputs are those of inference, on the first step's images."""

    outputs_before: Array
    losses: Array  # of each step, the mean of its images
    gradients: Mapping[str, Array]  # by the name of the parameter, of the first step's loss
    weights: Mapping[str, Array]
    averages: Mapping[str, Array]  # of the weights, as they are scored
    outputs: Array

    def arrays(self) -> dict[str, Mapping[str, Array]]:
        """All of it by what it is and by name."""
        return {
            "outputs before": {"": self.outputs_before},
            "losses": {"": self.losses},
            "gradients": self.gradients,
            "weights": self.weights,
            "averages": self.averages,
            "outputs": {"": self.outputs},
        }


def own_plans(model: Any, batch: int, mode: Mode) -> Any:
    """The plans that a model makes itself."""
    return model.plan(batch, mode, "float64")


def ours(setup: Setup, *, threads: int = 1, plans: Plans = own_plans) -> Result:
    """The training by this library, in float64."""
    model = _model(setup, threads)
    before = _outputs(model, setup, plans)
    losses = _train(model, setup, plans)
    weights = _copies(model.params)
    with model.averaged():
        averages = _copies(model.params)
    return Result(before, losses, gradients(setup, threads, plans), weights, averages, _outputs(model, setup, plans))


def gradients(setup: Setup, threads: int, plans: Plans) -> dict[str, Array]:
    """The gradient of the first step's loss: what a step of length 1 takes from the weights."""
    model, plain = _model(setup.plain(), threads), setup.plain()
    before = _copies(model.params)
    _train(model, plain, plans, lambda step: 1.0)
    return {name: before[name] - array for name, array in model.params.items()}


def _model(setup: Setup, threads: int) -> Any:
    model = cnnspec.Model(setup.spec, setup.graph, threads=threads, dtype="float64")
    for name, array in model.params.items():
        array[...] = values.weights(name, array.shape)
    return model


def _copies(params: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in params.items()}


def _outputs(model: Any, setup: Setup, plans: Plans) -> Array:
    plan = plans(model, setup.batch, "infer")
    plan.images[...] = values.images(0, setup.batch, setup.graph.input_shape)
    plan.compute()
    return np.array(plan.output)


def _train(model: Any, setup: Setup, plans: Plans, rate: Callable[[int], float] | None = None) -> Array:
    losses = []
    for step in range(setup.steps):
        plan = plans(model, setup.batch, "train")
        plan.images[...] = values.images(step, setup.batch, setup.graph.input_shape)
        plan.labels[...] = setup.labels(step)
        plan.step(rate(step) if rate else values.rate(step, setup.rate))
        losses.append(plan.losses.mean())
    return np.array(losses)
