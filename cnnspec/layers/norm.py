"""Normalisation over the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np

from cnnspec.fields import Fraction, PositiveNumber
from cnnspec.kernels import sums
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Buffer, Lifetime, Step
from cnnspec.layers.base import (
    Backward,
    InitializerField,
    Layer,
    Mode,
    Operands,
    Parameter,
    Reduce,
    State,
    Steps,
)
from cnnspec.registry import register
from cnnspec.shapes import Shape

FEW = 4  # rows: a map of at most so many gains nothing from coefficients repeated along a row


@register("batch_norm")
class BatchNorm(Layer):
    """Normalises every channel over the batch: y = weight (x - mean) / sqrt(variance + epsilon) + bias.

    Training takes mean and (biased) variance of the whole batch, whatever its shards, from sums in float64,
    and keeps running = momentum * running + (1 - momentum) * batch, the variance there with Bessel's correction.
    Inference takes the running statistics. Any shape; a vector's features are its channels. In float32 a mean of m
    deviations costs y and dx about m times the last digit, the variance nothing.
    Source: Ioffe and Szegedy, "Batch normalization" (2015).
    """

    momentum: Annotated[Fraction, "how much of the running statistics stays at a step"] = 0.9
    epsilon: Annotated[PositiveNumber, "added to the variance"] = 1e-5
    weight_init: Annotated[InitializerField, "how the scale starts"] = "ones"
    bias_init: Annotated[InitializerField, "how the shift starts"] = "zeros"

    normalises = True
    batch_statistics = True
    normalises_channels = True
    retains = frozenset({"x"})
    in_place = True
    row_reads = "elementwise"
    gradient_place = "x"

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (c,) and bias (c,)."""
        shape = (inputs[0][0],)
        return {"weight": Parameter(shape, self.weight_init), "bias": Parameter(shape, self.bias_init)}

    def state(self, *inputs: Shape) -> Mapping[str, State]:
        """Return running_mean (c,) and running_variance (c,)."""
        shape = (inputs[0][0],)
        return {"running_mean": State(shape, 0.0), "running_variance": State(shape, 1.0)}

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return sums and statistics by channel in float64, partial sums by row, and the coefficients of both passes.

        Coefficients are repeated along a row of the map, so that elementwise passes run through whole rows.
        """
        c, h, w = inputs[0] if len(inputs[0]) == 3 else (inputs[0][0], 1, 1)
        length = w * n if h > FEW else 1

        def exact(count: int, lifetime: Lifetime) -> Buffer:
            return Buffer((count, c), lifetime, np.float64)

        buffers = {
            "statistics": exact(2, "prepare"),
            "work": exact(2, "forward" if mode == "train" else "prepare"),
            "coefficients": Buffer((2, c), "prepare"),
            "repeated": Buffer((2, c, length)),
        }
        if mode == "train":
            buffers |= {
                "totals": exact(2, "forward"),
                "partial": Buffer((2, h, c)),
                "centred": Buffer((c, w * n)),
                "total_gradients": exact(2, "shared"),
                "spare": exact(1, "shared"),
                "partial_gradients": Buffer((2, h, c), "shared"),
                "reduced": exact(2, "input"),
                "factors": Buffer((3, c), "prepare"),
                "repeated_factors": Buffer((3, c, length), "input"),
            }
        return buffers

    def prepare(self, o: Operands) -> Steps:
        """Bind scale and shift by the running statistics at inference; nothing in training."""
        if o.mode == "train":
            return []
        coefficients, mean, variance = self._coefficients(o), o.state["running_mean"], o.state["running_variance"]
        return [lambda: coefficients(mean, variance)]

    def _coefficients(self, o: Operands) -> Callable[[Array, Array], None]:
        """Return a function that writes scale and shift, which all shards share, for a mean and a variance."""
        inverse, work = o.buffers["statistics"][1], o.buffers["work"]
        weight, bias, epsilon = o.params["weight"], o.params["bias"], self.epsilon
        scale, shift = o.buffers["coefficients"]

        def coefficients(mean: Array, variance: Array) -> None:
            np.add(variance, epsilon, out=inverse)
            np.sqrt(inverse, out=inverse)
            np.divide(1, inverse, out=inverse)
            np.multiply(weight, inverse, out=work[0])
            np.copyto(scale, work[0], casting="same_kind")
            np.multiply(work[0], mean, out=work[0])
            np.subtract(bias, work[0], out=shift, casting="same_kind")

        return coefficients

    def forward(self, o: Operands) -> Steps:
        """Bind the sums, their reduction over all shards, and scale and shift; at inference scale and shift only."""
        affine = _affine(o.x, o.y, o.buffers["coefficients"], o.buffers["repeated"])
        if o.mode == "infer":
            return [affine]
        (mean, inverse), work = o.buffers["statistics"], o.buffers["work"]
        totals, count, keep, coefficients = o.buffers["totals"], _count(o), self._keep(o), self._coefficients(o)

        def statistics() -> None:
            np.divide(totals, count, out=totals)
            variance = totals[1]
            np.copyto(mean, totals[0])
            np.multiply(mean, mean, out=inverse)
            np.subtract(variance, inverse, out=variance)
            np.maximum(variance, 0, out=variance)
            keep()
            coefficients(mean, variance)

        moments = sums.channel_moments(o.x, totals, o.buffers["partial"], work, o.buffers["centred"])
        return [moments, Reduce(totals, statistics), affine]

    def _keep(self, o: Operands) -> Step:
        momentum, count, (mean, variance), fresh = self.momentum, _count(o), o.buffers["totals"], o.buffers["work"][0]
        running_mean, running_variance = o.state["running_mean"], o.state["running_variance"]
        unbiased = count / max(count - 1, 1)

        def step() -> None:
            for running, batch, share in ((running_mean, mean, 1.0), (running_variance, variance, unbiased)):
                np.multiply(batch, (1 - momentum) * share, out=fresh)
                np.multiply(running, momentum, out=running)
                np.add(running, fresh, out=running, casting="same_kind")

        return step

    def backward(self, o: Operands) -> Backward:
        """Bind dbias = sum dy and dweight = inverse sum dy u, with u = x - mean; dx needs both sums over all shards.

        dx = weight inverse (dy - u inverse^2 sum(dy u) / count - sum(dy) / count), as scale (slope x + dy + offset).
        """
        (mean, inverse), totals, count = o.buffers["statistics"], o.buffers["total_gradients"], _count(o)
        weight, dweight, dbias = o.params["weight"], o.grads["weight"], o.grads["bias"]
        products = sums.channel_products(o.dy, o.x, totals, o.buffers["partial_gradients"])
        spare = o.buffers["spare"][0]

        def add_up() -> None:
            products()
            np.multiply(mean, totals[0], out=spare)
            np.subtract(totals[1], spare, out=totals[1])

        def gradients() -> None:
            np.copyto(dbias, totals[0], casting="same_kind")
            np.multiply(totals[1], inverse, out=dweight, casting="same_kind")

        if o.dx is None:
            return Backward(shared=[add_up], params=[gradients])
        x, dy, dx = (sums.rows_of(array) for array in (o.x, o.dy, o.dx))
        slope, offset, scale = factors = o.buffers["factors"]
        repeated, reduced = o.buffers["repeated_factors"], o.buffers["reduced"]

        def coefficients() -> None:
            np.divide(reduced, -count, out=reduced)
            np.multiply(reduced[1], inverse, out=reduced[1])
            np.multiply(reduced[1], inverse, out=reduced[1])
            np.copyto(slope, reduced[1], casting="same_kind")
            np.multiply(reduced[1], mean, out=reduced[1])
            np.subtract(reduced[0], reduced[1], out=offset, casting="same_kind")
            np.multiply(weight, inverse, out=scale, casting="same_kind")

        def spread() -> None:
            np.copyto(repeated, factors[:, :, None])
            np.multiply(x, repeated[0], out=dx)
            np.add(dx, dy, out=dx)
            np.add(dx, repeated[1], out=dx)
            np.multiply(dx, repeated[2], out=dx)

        return Backward([copy(totals, reduced), Reduce(reduced, coefficients), spread], [gradients], shared=[add_up])


def _affine(x: Array, y: Array, coefficients: Array, repeated: Array) -> Step:
    """Bind y = scale x + shift."""
    rows, target = sums.rows_of(x), sums.rows_of(y)

    def step() -> None:
        np.copyto(repeated, coefficients[:, :, None])
        np.multiply(rows, repeated[0], out=target)
        np.add(target, repeated[1], out=target)

    return step


def _count(o: Operands) -> int:
    """The count of numbers that one channel has in the whole batch."""
    return o.batch * (o.x.shape[0] * o.x.shape[2] if o.x.ndim == 4 else 1)
