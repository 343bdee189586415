"""The contract of a layer: what it declares, what it is given, and what it returns to the plan.

A layer is a frozen dataclass without state. When a plan is made, the layer says which arrays it needs and
binds its arithmetic to them: `forward` and `backward` are called once per shard and return lists of
steps that run again and again on the same arrays. Inside a plan maps are (h, c, w, n) and vectors (features, n).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import numpy as np

from cnnspec.fields import Declaration, Registered
from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.layers.facts import Facts
from cnnspec.shapes import Shape

if TYPE_CHECKING:
    from cnnspec.kernels.problem import Problem

Mode = Literal["train", "infer"]

# How a row of y, which is what the first axis of an array counts, depends on the inputs: on the same row of each of
# them; on the rows that its windows cover, which the layer's `windows(shape)` tells; or on all features, with its own
# row of every parameter, of which there are as many as the layer's `units`.
RowReads = Literal["elementwise", "windows", "units"]


class Initializer(Protocol):
    """Fills a fresh parameter; `fans` are the connections into and out of one unit."""

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write the initial values into `array`."""

    def check(self, shape: Shape) -> None:
        """ShapeError where no parameter of that shape can start so."""


InitializerField = Annotated[Any, Registered("initializer")]


@dataclass(frozen=True)
class Parameter:
    """A learned array: its shape, how it starts, and whether weight decay applies to it."""

    shape: Shape
    initializer: Initializer
    fans: tuple[int, int] = (1, 1)  # in, out
    decays: bool = False


@dataclass(frozen=True)
class State:
    """An array that training changes without a gradient, such as a running mean."""

    shape: Shape
    fill: float


class RandomStream(Protocol):
    """Random numbers that are determined by the seed, the step, the layer and the shard."""

    def uniform(self, out: Array) -> None:
        """Fill with uniform numbers of [0, 1)."""


@dataclass(frozen=True)
class Reduce:
    """A sum over all shards, for which each of them waits: the first shard's `array` becomes the sum of all arrays.

    The first shard's `after_sum` runs once, when the sum is complete. What the other shards need of it, that step
    writes to `prepare` buffers, which all shards share.
    """

    array: Array
    after_sum: Step


Steps = Sequence[Step | Reduce]


@dataclass(frozen=True)
class Backward:
    """The steps of a backward pass: `shared` runs first, then `input` and `params`, perhaps at the same time.

    `input` writes the inputs' gradients, `params` the parameters'; neither writes what the other one reads or writes,
    so what both need is made by `shared`. The lifetime of each buffer (`kernels.step`) says whose it is.
    """

    input: Steps = ()
    params: Steps = ()
    shared: Steps = ()


@dataclass(frozen=True, kw_only=True)
class Operands:
    """The arrays of one layer in one shard. Gradients are written, never added to; None where nobody wants them."""

    inputs: tuple[Array, ...]
    output: Array
    input_grads: tuple[Array | None, ...] = ()
    output_grads: tuple[Array, ...] = ()  # one for each reader: several only for `Fork`
    params: Mapping[str, Array] = field(default_factory=dict)
    grads: Mapping[str, Array] = field(default_factory=dict)  # what this shard contributes
    state: Mapping[str, Array] = field(default_factory=dict)
    buffers: Mapping[str, Array] = field(default_factory=dict)
    mode: Mode = "train"
    shard: int = 0
    batch: int = 1  # images in all shards together
    random: RandomStream | None = None

    @property
    def x(self) -> Array:
        """The input of a layer that has one."""
        return self.inputs[0]

    @property
    def y(self) -> Array:
        """The output, which the steps of `forward` write."""
        return self.output

    @property
    def dx(self) -> Array | None:
        """The gradient of the input of a layer that has one; None where nobody wants it."""
        return self.input_grads[0]

    @property
    def dy(self) -> Array:
        """The gradient of the output."""
        return self.output_grads[0]


class Layer(Declaration, Facts):
    """Base of all layers; a subclass states its formula in its docstring and its fields as keys of the spec."""

    kind: ClassVar[str] = "layer"
    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # fewest and most inputs; None: any number
    retains: ClassVar[frozenset[str]] = frozenset()  # which of "x" and "y" backward reads
    in_place: ClassVar[bool] = False  # y may lie in x's place
    gradient_place: ClassVar[Literal["x", "dy"] | None] = None  # whose place dx may take
    passes_on: ClassVar[frozenset[str]] = frozenset()  # of "x" and "dy": y is it, or every dx
    train_only: ClassVar[bool] = False  # the identity at inference
    increasing: ClassVar[bool] = False  # elementwise and non-decreasing: commutes with a maximum
    scales: ClassVar[str | None] = None  # the parameter whose first axis are the channels of y, if scaling it scales y
    selects_maximum: ClassVar[bool] = False  # each output is one of its inputs, the largest of a window
    convolves: ClassVar[bool] = False  # y is what `convolution` describes, with `weight`, and `bias` if there is one
    normalises_channels: ClassVar[bool] = False  # at inference y = weight (x - running_mean) / deviation + bias
    row_reads: ClassVar[RowReads | None] = None  # how a row of y depends on the rows of the inputs

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output; ShapeError where the inputs do not fit."""
        return inputs[0]

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return the learned arrays by name."""
        return {}

    def state(self, *inputs: Shape) -> Mapping[str, State]:
        """Return the running statistics by name."""
        return {}

    def cost(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates of the forward pass for one image; 0 for elementwise work."""
        return 0

    def convolution(self, *inputs: Shape) -> Problem | None:
        """Return the convolution problem that kernels are chosen for, or None for a layer that is no convolution."""
        return None

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the further arrays that the steps of a shard of `n` images use."""
        return {}

    def prepare(self, o: Operands) -> Steps:
        """Bind what depends on parameters and running statistics only; it runs once a step for all shards."""
        return []

    def forward(self, o: Operands) -> Steps:
        """Bind y = f(x) to its arrays."""
        raise NotImplementedError

    def backward(self, o: Operands) -> Backward:
        """Bind dx and the parameters' gradients, those that `o.grads` has a place for, to their arrays."""
        raise NotImplementedError


def within(arrays: Mapping[str, Array], part: str) -> dict[str, Array]:
    """Return the arrays whose names begin with a prefix and a dot, by the rest of their names."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def batch_shape(shape: Shape, n: int) -> Shape:
    """A public shape as a plan holds it: (c, h, w) becomes (h, c, w, n), (features,) becomes (features, n)."""
    if len(shape) == 3:
        c, h, w = shape
        return (h, c, w, n)
    return (*shape, n)


def map_shape(array: Array) -> Shape:
    """The public shape (c, h, w) of one image of a map (h, c, w, n)."""
    h, c, w, _ = array.shape
    return (c, h, w)


def to_public(array: Array) -> Array:
    """A plan's (h, c, w, n) or (features, n) as the caller's n, c, h, w or n, features (a view)."""
    return array.transpose(3, 1, 0, 2) if array.ndim == 4 else np.moveaxis(array, -1, 0)


def from_public(array: Array) -> Array:
    """The caller's n, c, h, w or n, features as a plan's (h, c, w, n) or (features, n) (a view)."""
    return array.transpose(2, 1, 3, 0) if array.ndim == 4 else np.moveaxis(array, 0, -1)
