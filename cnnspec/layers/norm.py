"""Normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from cnnspec.fields import Fraction, PositiveNumber
from cnnspec.kernels import sums
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import (
    Backward,
    InitializerField,
    Layer,
    Mode,
    Operands,
    Parameter,
    Program,
    Reduce,
    State,
)
from cnnspec.registry import register
from cnnspec.shapes import Shape


@register("batch_norm")
class BatchNorm(Layer):
    """Normalises every channel over the batch: y = weight (x - mean) / sqrt(variance + epsilon) + bias.

    Training takes mean and (biased) variance of the whole batch, whatever its shards, in two passes, and keeps
    running = momentum * running + (1 - momentum) * batch, the variance there with Bessel's correction. Inference
    takes the running statistics. Any shape; a vector's features are its channels.
    Source: Ioffe and Szegedy, "Batch normalization" (2015).
    """

    momentum: Annotated[Fraction, "how much of the running statistics stays at a step"] = 0.9
    epsilon: Annotated[PositiveNumber, "added to the variance"] = 1e-5
    weight_init: Annotated[InitializerField, "how the scale starts"] = "ones"
    bias_init: Annotated[InitializerField, "how the shift starts"] = "zeros"

    retains = frozenset({"x"})

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """weight (c,) and bias (c,)."""
        shape = (inputs[0][0],)
        return {"weight": Parameter(shape, self.weight_init), "bias": Parameter(shape, self.bias_init)}

    def state(self, *inputs: Shape) -> Mapping[str, State]:
        """running_mean (c,) and running_variance (c,)."""
        shape = (inputs[0][0],)
        return {"running_mean": State(shape, 0.0), "running_variance": State(shape, 1.0)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Statistics by channel, and their partial sums by row."""
        channels = inputs[0][0]
        rows = inputs[0][1] if len(inputs[0]) == 3 else 1
        found = {"scale": Buffer((channels,)), "shift": Buffer((channels,))}
        if mode == "train":
            found |= {
                "partial": Buffer((rows, channels)),
                "mean": Buffer((channels,), "kept"),
                "inverse": Buffer((channels,), "kept"),
                "partial_gradient": Buffer((rows, channels), "backward"),
                "sums": Buffer((2, channels), "backward"),
                "factors": Buffer((3, channels), "backward"),
            }
        return found

    def forward(self, o: Operands) -> Program:
        """Mean, a meeting, centred squares, a meeting, scale and shift."""
        return self._infer(o) if o.mode == "infer" else self._train(o)

    def _infer(self, o: Operands) -> Program:
        x, y, scale, shift, epsilon = (
            sums.rows_of(o.x),
            sums.rows_of(o.y),
            o.buffers["scale"],
            o.buffers["shift"],
            self.epsilon,
        )
        weight, bias = o.params["weight"], o.params["bias"]
        mean, variance = o.state["running_mean"], o.state["running_variance"]

        def step() -> None:
            np.add(variance, epsilon, out=scale)
            np.sqrt(scale, out=scale)
            np.divide(weight, scale, out=scale)
            np.multiply(mean, scale, out=shift)
            np.subtract(bias, shift, out=shift)
            np.multiply(x, scale[:, None], out=y)
            np.add(y, shift[:, None], out=y)

        return [step]

    def _train(self, o: Operands) -> Program:
        x, y, count = sums.rows_of(o.x), sums.rows_of(o.y), _count(o)
        mean, inverse, partial, squares = (o.buffers[name] for name in ("mean", "inverse", "partial", "shift"))
        scale, weight, bias, epsilon = o.buffers["scale"], o.params["weight"], o.params["bias"], self.epsilon

        def centre() -> None:
            np.divide(mean, count, out=mean)
            np.subtract(x, mean[:, None], out=y)
            np.vecdot(y, y, out=partial)
            np.add.reduce(partial, axis=0, out=squares)

        def normalise() -> None:
            np.divide(squares, count, out=inverse)
            np.add(inverse, epsilon, out=inverse)
            np.sqrt(inverse, out=inverse)
            np.divide(1, inverse, out=inverse)
            np.multiply(inverse, weight, out=scale)
            np.multiply(y, scale[:, None], out=y)
            np.add(y, bias[:, None], out=y)

        program: Program = [sums.channel_sum(o.x, mean, partial), Reduce(mean), centre, Reduce(squares)]
        track = [self._track(o, mean, squares, count)] if o.shard == 0 else [_rest]
        return [*program, *track, normalise]

    def _track(self, o: Operands, mean: Array, squares: Array, count: int) -> Step:
        momentum, unbiased = self.momentum, max(count - 1, 1)
        running_mean, running_variance = o.state["running_mean"], o.state["running_variance"]
        fresh = o.buffers["scale"]

        def step() -> None:
            for running, batch, divisor in ((running_mean, mean, 1), (running_variance, squares, unbiased)):
                np.multiply(batch, (1 - momentum) / divisor, out=fresh)
                np.multiply(running, momentum, out=running)
                np.add(running, fresh, out=running)

        return step

    def backward(self, o: Operands) -> Backward:
        """With u = x - mean: dbias = sum dy, dweight = inverse sum dy u, both met over shards for dx.

        dx = weight inverse (dy - u inverse^2 sum(dy u)/count - sum(dy)/count).
        """
        x, dy = sums.rows_of(o.x), sums.rows_of(o.dy)
        dx = sums.rows_of(o.dx if o.dx is not None else np.empty_like(o.x))
        mean, inverse, partial = o.buffers["mean"], o.buffers["inverse"], o.buffers["partial_gradient"]
        totals, factors, count = o.buffers["sums"], o.buffers["factors"], _count(o)
        weight, dweight, dbias = o.params["weight"], o.grads["weight"], o.grads["bias"]
        sum_dy = sums.channel_sum(o.dy, totals[0], partial)

        def reduce() -> None:
            sum_dy()
            np.subtract(x, mean[:, None], out=dx)
            np.vecdot(dy, dx, out=partial)
            np.add.reduce(partial, axis=0, out=totals[1])
            np.copyto(dbias, totals[0])
            np.multiply(totals[1], inverse, out=dweight)

        slope, offset, scale = factors

        def spread() -> None:
            np.multiply(inverse, inverse, out=slope)
            np.multiply(slope, totals[1], out=slope)
            np.divide(slope, -count, out=slope)
            np.divide(totals[0], -count, out=offset)
            np.multiply(weight, inverse, out=scale)
            np.multiply(dx, slope[:, None], out=dx)
            np.add(dx, dy, out=dx)
            np.add(dx, offset[:, None], out=dx)
            np.multiply(dx, scale[:, None], out=dx)

        return Backward([reduce, Reduce(totals), spread])


def _count(o: Operands) -> int:
    """Numbers in one channel of the whole batch."""
    return o.batch * (o.x.shape[0] * o.x.shape[2] if o.x.ndim == 4 else 1)


def _rest() -> None:
    """What the other shards do while the first one keeps the running statistics."""
