"""Normal noise in training: added to the input, or with a mean and a variance that the network itself computes."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Annotated, ClassVar

import numpy as np

from cnnspec.fields import NonNegativeNumber
from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Steps, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text


class Noisy(Layer):
    """Base of layers that draw z in every step: for each number of x one of the standard normal distribution."""

    train_only: ClassVar[bool] = True

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return two uniform numbers for each number of x, and the normal one, which is kept; nothing at inference."""
        shape = batch_shape(inputs[0], n)
        return {} if mode == "infer" else {"uniform": Buffer((2, *shape)), "noise": Buffer(shape, "kept")}


def _drawn(o: Operands) -> Step:
    """z = sqrt(-2 log(1 - u)) cos(2 pi v) of uniform u and v (Box and Muller 1958)."""
    assert o.random is not None
    random, uniform, noise = o.random, o.buffers["uniform"], o.buffers["noise"]
    length, angle = uniform

    def step() -> None:
        random.uniform(uniform)
        np.subtract(1, length, out=length)
        np.log(length, out=length)
        np.multiply(length, -2, out=length)
        np.sqrt(length, out=length)
        np.multiply(angle, 2 * pi, out=angle)
        np.cos(angle, out=angle)
        np.multiply(length, angle, out=noise)

    return step


@register("noise")
class Noise(Noisy):
    """y = x + std z in training, z of the standard normal distribution; at inference y = x.

    Source: Bishop, "Training with noise is equivalent to Tikhonov regularization" (1995).
    """

    std: Annotated[NonNegativeNumber, "standard deviation of what is added"] = 0.1

    in_place = True
    passes_on = frozenset({"dy"})

    def forward(self, o: Operands) -> Steps:
        """Bind the draw and the sum; at inference a copy."""
        x, y, std = o.x, o.y, self.std
        if o.mode == "infer":
            return [copy(x, y)]
        noise = o.buffers["noise"]

        def step() -> None:
            np.multiply(noise, std, out=noise)
            np.add(x, noise, out=y)

        return [_drawn(o), step]

    def backward(self, o: Operands) -> Backward:
        """dx = dy."""
        return Backward() if o.dx is None else Backward([copy(o.dy, o.dx)])


@register("reparameterize")
class Reparameterize(Noisy):
    """y = m + exp(v / 2) z in training, of two inputs: means m and logarithms of variances v; at inference y = m.

    z is of the standard normal distribution, so y is drawn from the distribution that the network gives, and gradients
    pass to both inputs. Source: Kingma and Welling, "Auto-encoding variational Bayes" (2013).
    """

    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of both; ShapeError where they differ."""
        mean, log_variance = inputs
        if mean != log_variance:
            raise ShapeError(
                f"expected means and logarithms of variances of one shape, got {text(mean)} and {text(log_variance)}",
                field="from",
            )
        return mean

    def forward(self, o: Operands) -> Steps:
        """Bind the draw, the deviation and the sum; at inference a copy of the means."""
        (mean, log_variance), y = o.inputs, o.y
        if o.mode == "infer":
            return [copy(mean, y)]
        noise, deviation = o.buffers["noise"], o.buffers["uniform"][0]

        def step() -> None:
            np.multiply(log_variance, 0.5, out=deviation)
            np.exp(deviation, out=deviation)
            np.multiply(noise, deviation, out=noise)
            np.add(mean, noise, out=y)

        return [_drawn(o), step]

    def backward(self, o: Operands) -> Backward:
        """Bind dm = dy and dv = dy e / 2, where e = exp(v / 2) z, the added noise, was kept by forward."""
        dmean, dlog = o.input_grads
        noise, dy = o.buffers["noise"], o.dy
        steps: list[Step] = [] if dmean is None else [copy(dy, dmean)]
        if dlog is not None:
            steps.append(_slope(noise, dy, dlog))
        return Backward(steps)


def _slope(noise: Array, dy: Array, dx: Array) -> Step:
    def step() -> None:
        np.multiply(dy, noise, out=dx)
        np.multiply(dx, 0.5, out=dx)

    return step
