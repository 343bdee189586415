"""Numerical check of a network's gradients in float64: layer by layer with the spec's own shapes, then as a whole.

Along a random direction v the derivative of an objective is g.v, and (f(x + h v) - f(x - h v)) / 2h by differences. The
error is their difference divided by |g|, the standard deviation of g.v. If a number crosses the kink of a relu within
the step, the slopes on both sides differ, and half of their difference is the uncertainty of the estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.graph import Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.base import batch_shape
from cnnspec.optim.optimizers import Sgd
from cnnspec.optim.settings import Clip, RateFactors
from cnnspec.period import ALWAYS, NEVER
from cnnspec.plan.single import bind_single
from cnnspec.plan.state import Stream
from cnnspec.shapes import Shape
from cnnspec.spec import Spec
from cnnspec.train.network import Network
from cnnspec.train.random_labels import random_labels

STEP = 1e-7  # small, so that few of many numbers cross a kink
DIRECTIONS = 3
OF_ONE_LAYER = 2  # images for the check of one layer
WHOLE = "the whole network"


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one gradient: the layer, the array, and the error against differences."""

    layer: str
    type: str
    array: str
    error: float


def gradcheck(spec: Spec, graph: Graph, *, images: int | None = None) -> Iterator[Check]:
    """Check every layer's gradients on a few random images, then the parameters' gradient of a training plan.

    That plan has the spec's own batch size unless `images` is given, as its arithmetic depends on the size. It is left
    out if the spec has no train section.
    """
    for position, node in enumerate(graph.nodes):
        yield from _checks(node, position, spec.seed, images or OF_ONE_LAYER)
    if spec.train is not None and graph.trainable_count:
        yield _check_plan(spec, graph, images or spec.train.batch_size)


def _checks(node: Node, position: int, seed: int, images: int) -> Iterator[Check]:
    """Check the gradients of one layer with respect to its inputs and parameters, which are all random."""
    random = np.random.default_rng([seed, position])

    def normal(shape: Shape) -> Array:
        return random.standard_normal(shape)

    single = bind_single(
        node.layer,
        node.input_shapes,
        [normal(batch_shape(shape, images)) for shape in node.input_shapes],
        params={name: normal(parameter.shape) for name, parameter in node.params.items()},
        state={name: np.full(state.shape, state.fill) for name, state in node.state.items()},
        output_grads=[normal(batch_shape(node.shape, images))],
        random=Stream(seed, node.name, 0, np.array(1)),
    )
    o = single.operands

    def objective() -> float:
        single.run_forward()
        return float(np.vdot(o.dy, o.output))

    objective()
    single.run_backward()
    count = len(o.inputs)
    names = ["input" if count == 1 else f"input {i + 1}" for i in range(count)]
    pairs = [(x, dx.copy()) for x, dx in zip(o.inputs, o.input_grads, strict=True) if dx is not None]
    arrays = dict(zip(names, pairs, strict=True))
    arrays |= {name: (array, o.grads[name].copy()) for name, array in o.params.items()}
    for name, (array, gradient) in arrays.items():
        yield Check(node.name, node.layer.type_name, name, _error(objective, array, gradient, random))


def _error(
    objective: Callable[[], float], array: Array, gradient: Array, random: np.random.Generator, length: float = 1.0
) -> float:
    """The largest error over some random directions, whose coordinates have a standard deviation of `length`."""
    if not np.isfinite(gradient).all():
        return float("inf")
    original, size = array.copy(), max(float(np.linalg.norm(gradient)) * length, 1e-12)
    loss, largest = objective(), 0.0
    for _ in range(DIRECTIONS):
        direction = length * random.standard_normal(array.shape)
        sides = []
        for step in (STEP, -STEP):
            array[...] = original + step * direction
            sides.append((objective() - loss) / step)
        array[...] = original
        slope, bend = sum(sides) / 2, abs(sides[0] - sides[1]) / 2
        largest = max(largest, abs(slope - float(np.vdot(gradient, direction))) - bend)
    return max(largest, 0.0) / size


def _check_plan(spec: Spec, graph: Graph, images: int) -> Check:
    """Check the parameters' gradient of a training plan: one step of plain descent at rate 1 subtracts it from them."""
    assert spec.train is not None
    rule: dict[str, Any] = {"optimizer": Sgd(learning_rate=1.0), "rate_factors": RateFactors()}
    plain = spec.train.but(**rule, clip=Clip(), accumulate=1, ema=None, lookahead=None, swa=None)
    nodes = tuple(
        dataclasses.replace(node, weight_decay=0.0, rate_factor=1.0, period=ALWAYS if node.trainable else NEVER)
        for node in graph.nodes
    )
    network = Network(dataclasses.replace(spec, train=plain), dataclasses.replace(graph, nodes=nodes), dtype="float64")
    assert network.training is not None
    plan = network.plan(images, "train", "float64")
    random = np.random.default_rng(spec.seed)
    plan.images[...] = random.random(plan.images.shape)
    plan.labels[...] = random_labels(network, plan.images, random)
    trained = network.weights.trained
    values = network.weights.values[:trained]
    before = values.copy()
    plan.step(1.0)
    gradient = before - values
    values[...] = before

    def objective() -> float:
        # The clock does not advance, so that random numbers are the same every time.
        network.weights.version += 1
        plan.compute()
        return float(plan.losses.mean())

    # A direction of about length 1, so that hardly any of the many numbers crosses the kink of a relu.
    error = _error(objective, values, gradient, random, length=1 / max(trained, 1) ** 0.5)
    return Check(WHOLE, "loss", "parameters", error)
