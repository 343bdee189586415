"""Initializers: the values that parameters have before training."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from cnnspec.fields import Declaration, NonNegativeNumber, Number, PositiveInt, Registered
from cnnspec.kernels.step import Array
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, text


class Initializer(Declaration):
    """Base of all initializers, which fill a parameter before training."""

    kind: ClassVar[str] = "initializer"
    from_images: ClassVar[bool] = False  # whether it learns from the training images, which a first convolution reads

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write the initial values to a parameter; `fans` counts the connections into and out of one unit."""
        raise NotImplementedError

    def check(self, shape: Shape) -> None:
        """Raise ShapeError if the initializer cannot fill a parameter of that shape."""


Mode = Literal["fan_in", "fan_out", "fan_avg"]


class Scaled(Initializer):
    """Base of initializers of variance gain / fan: a normal distribution, or a uniform one in +-sqrt(3 gain / fan)."""

    gain: ClassVar[float]

    distribution: Annotated[Literal["normal", "uniform"], "which distribution it is"] = "normal"
    mode: Annotated[Mode, "which connections of a unit are counted"] = "fan_in"

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Draw in float64, so that a network in float32 starts with the same values, rounded."""
        fan = {"fan_in": fans[0], "fan_out": fans[1], "fan_avg": (fans[0] + fans[1]) / 2}[self.mode]
        variance = self.gain / fan
        if self.distribution == "normal":
            array[...] = random.standard_normal(array.shape) * sqrt(variance)
        else:
            array[...] = random.uniform(-sqrt(3 * variance), sqrt(3 * variance), array.shape)


@register("he")
class He(Scaled):
    """Variance 2 / fan, which keeps the scale of what passes through relu, as relu halves the mean square.

    Source: He et al., "Delving deep into rectifiers" (2015).
    """

    gain = 2.0


@register("glorot")
class Glorot(Scaled):
    """Variance 1 / fan, by default of the mean of fan_in and fan_out.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).
    """

    gain = 1.0

    mode: Annotated[Mode, "which connections of a unit are counted"] = "fan_avg"


@register("lecun")
class LeCun(Scaled):
    """Variance 1 / fan. Source: LeCun et al., "Efficient backprop" (1998)."""

    gain = 1.0


@register("normal")
class Normal(Initializer):
    """A normal distribution of any mean and standard deviation."""

    mean: Annotated[Number, "mean of the distribution"] = 0.0
    std: Annotated[NonNegativeNumber, "standard deviation"] = 0.01

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Draw mean + std z, with z of the standard normal distribution."""
        array[...] = self.mean + self.std * random.standard_normal(array.shape)


@register("truncated_normal")
class TruncatedNormal(Normal):
    """A normal distribution cut off at two standard deviations: a number further from the mean is drawn again.

    The standard deviation is that before the cut, as Keras and PyTorch have it; after it 0.88 of that is left.
    """

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Draw z, anew where it is not between -2 and 2, and write mean + std z."""
        z = random.standard_normal(array.shape)
        while (outside := abs(z) > 2).any():
            z[outside] = random.standard_normal(int(outside.sum()))
        array[...] = self.mean + self.std * z


@register("orthogonal")
class Orthogonal(Initializer):
    """A matrix (units, connections) whose rows are orthogonal, or its columns where there are more rows than columns.

    Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear networks" (2013).
    """

    gain: Annotated[Number, "length of the rows or columns"] = 1.0

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write Q of the QR decomposition of a normal matrix, with the signs that make it unique (Mezzadri 2007)."""
        rows = len(array)
        columns = array.size // rows
        normal = random.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(normal)
        q = q * np.sign(np.diag(r))
        array[...] = self.gain * (q if rows >= columns else q.T).reshape(array.shape)


@register("dirac")
class Dirac(Initializer):
    """Filter f copies channel f of its input: w[f, f] = 1 at the filter's centre, 0 elsewhere.

    Filters beyond the number of channels start as `rest` says. With groups, each group passes its own channels on. Of a
    dense layer the weights are the identity. Source: Zagoruyko and Komodakis, "DiracNets" (2017).
    """

    groups: Annotated[PositiveInt, "the groups of the convolution"] = 1
    rest: Annotated[Any, Registered("initializer"), "how the filters start that no channel is left for"] = "zeros"

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Fill all filters as `rest` says, then overwrite some: its random numbers do not depend on how many."""
        self.rest.fill(array, fans, random)
        filters, channels, *kernel = array.shape
        centre, group = tuple(length // 2 for length in kernel), filters // self.groups
        for first in range(0, filters, group):
            for channel in range(min(group, channels)):
                array[first + channel] = 0
                array[(first + channel, channel, *centre)] = 1

    def check(self, shape: Shape) -> None:
        """ShapeError for a bias, and where groups do not divide the filters."""
        if len(shape) < 2:
            raise ShapeError(f"dirac needs filters and channels, this is {text(shape)}", help="use zeros")
        if shape[0] % self.groups:
            raise ShapeError(f"dirac: expected groups that divide {shape[0]} filters, got {self.groups}")


@register("constant")
class Constant(Initializer):
    """Every element is the same value."""

    value: Annotated[Number, "the value of all elements"]

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write the value to every element."""
        array.fill(self.value)


@register("zeros")
class Zeros(Initializer):
    """Every element is 0."""

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write 0 to every element."""
        array.fill(0)


@register("ones")
class Ones(Initializer):
    """Every element is 1."""

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write 1 to every element."""
        array.fill(1)
