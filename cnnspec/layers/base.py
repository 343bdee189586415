"""The contract of a layer: the facts that it declares, the arrays that it gets, the steps that it returns.

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

# How a row of y (an element of the first axis of its array) depends on the inputs. "elementwise": on the same row of
# each input. "windows": on the rows that its windows cover, as the layer's `windows(shape)` says. "units": on all
# features, and on its own row of every parameter, of which there are as many as the layer's `units`.
RowReads = Literal["elementwise", "windows", "units"]


class Initializer(Protocol):
    """The initial values of a parameter; `fans` are the numbers of connections into and out of one unit."""

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Write the initial values into `array`."""

    def check(self, shape: Shape) -> None:
        """Raise ShapeError if the initializer cannot fill a parameter of that shape."""


InitializerField = Annotated[Any, Registered("initializer")]


@dataclass(frozen=True)
class Parameter:
    """A learned array: its shape, its initializer, and whether weight decay applies to it."""

    shape: Shape
    initializer: Initializer
    fans: tuple[int, int] = (1, 1)  # connections into and out of one unit
    decays: bool = False


@dataclass(frozen=True)
class State:
    """An array that training changes without a gradient, such as a running mean."""

    shape: Shape
    fill: float


class RandomStream(Protocol):
    """Random numbers that are determined by the seed, the step, the layer and the shard."""

    def uniform(self, out: Array) -> None:
        """Fill `out` with uniform random numbers of [0, 1)."""


@dataclass(frozen=True)
class Reduce:
    """A sum over all shards, for which each of them waits: the first shard's `array` becomes the sum of all arrays.

    The first shard's `after_sum` runs once, when the sum is complete. It writes the results that other shards need to
    `prepare` buffers, which all shards share.
    """

    array: Array
    after_sum: Step


Steps = Sequence[Step | Reduce]


@dataclass(frozen=True)
class Backward:
    """The steps of a backward pass: `shared` runs first, then `input` and `params`, perhaps at the same time.

    `input` writes the inputs' gradients, `params` the parameters'; neither writes an array that the other one reads or
    writes, so `shared` computes the arrays that both need. The lifetime of each buffer (`kernels.step`) says which of
    them may write it.
    """

    input: Steps = ()
    params: Steps = ()
    shared: Steps = ()


@dataclass(frozen=True, kw_only=True)
class Operands:
    """The arrays of one layer in one shard. Gradients are overwritten, never added to; None if they are not needed."""

    inputs: tuple[Array, ...]
    output: Array
    input_grads: tuple[Array | None, ...] = ()
    output_grads: tuple[Array, ...] = ()  # one for each reader: several only for `Fork`
    params: Mapping[str, Array] = field(default_factory=dict)
    grads: Mapping[str, Array] = field(default_factory=dict)  # of this shard alone
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
        """The gradient of the input of a layer that has one; None if it is not needed."""
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
    gradient_place: ClassVar[Literal["x", "dy"] | None] = None  # the array in whose place dx may lie
    passes_on: ClassVar[frozenset[str]] = frozenset()  # "x": y is x itself; "dy": every dx is dy itself
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
        """Return the scratch arrays that the steps of a shard of `n` images use, by name."""
        return {}

    def prepare(self, o: Operands) -> Steps:
        """Bind the computation of arrays that depend on parameters and statistics alone, once for all shards."""
        return []

    def forward(self, o: Operands) -> Steps:
        """Bind y = f(x) to its arrays."""
        raise NotImplementedError

    def backward(self, o: Operands) -> Backward:
        """Bind the computation of dx, and of the parameter gradients that `o.grads` has an array for."""
        raise NotImplementedError


def within(arrays: Mapping[str, Array], part: str) -> dict[str, Array]:
    """Return the arrays whose names begin with a prefix and a dot, by the rest of their names."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def batch_shape(shape: Shape, n: int) -> Shape:
    """The shape of an array in a plan for a public shape: (h, c, w, n) for (c, h, w), (features, n) for (features,)."""
    if len(shape) == 3:
        c, h, w = shape
        return (h, c, w, n)
    return (*shape, n)


def map_shape(array: Array) -> Shape:
    """The public shape (c, h, w) of one image of a map (h, c, w, n)."""
    h, c, w, _ = array.shape
    return (c, h, w)


def to_public(array: Array) -> Array:
    """A view of a plan's array (h, c, w, n) or (features, n) in the public order, (n, c, h, w) or (n, features)."""
    return array.transpose(3, 1, 0, 2) if array.ndim == 4 else np.moveaxis(array, -1, 0)


def from_public(array: Array) -> Array:
    """A view of an array (n, c, h, w) or (n, features) in a plan's order, (h, c, w, n) or (features, n)."""
    return array.transpose(2, 1, 3, 0) if array.ndim == 4 else np.moveaxis(array, 0, -1)
