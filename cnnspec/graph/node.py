"""The graph: nodes in the order in which they run, each knowing its shapes, parameters and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cnnspec.layers.base import Layer, Parameter, State
from cnnspec.period import ALWAYS, NEVER, Period
from cnnspec.shapes import Shape, size
from cnnspec.spec.place import Place

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Node:
    """One layer in the graph; the node's name is also the name of the value that it makes."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    shape: Shape
    params: Mapping[str, Parameter] = field(default_factory=dict)
    state: Mapping[str, State] = field(default_factory=dict)
    macs: int = 0  # multiply-accumulates of one image's forward pass
    weight_decay: float | None = None  # None: the optimizer's
    period: Period = ALWAYS  # the part of the training in which it is trained
    rate_factor: float = 1.0  # the learning rate is multiplied by it
    share: str | None = None  # the node whose parameters it uses
    keys: Mapping[str, str] = field(default_factory=dict)  # the array of each parameter, such as conv2d_1.weight
    place: Place | None = None  # its place in the spec; None in graphs made by hand
    parameter_count: int = field(init=False)  # the learned numbers in this node; 0 if they belong to another

    def __post_init__(self) -> None:
        """Name the arrays of the parameters unless `keys` does: the node's own, or those of the node in `share`."""
        params = {} if self.share else self.params
        object.__setattr__(self, "parameter_count", sum(size(parameter.shape) for parameter in params.values()))
        if not self.keys:
            owner = self.share or self.name
            object.__setattr__(self, "keys", {name: f"{owner}.{name}" for name in self.params})

    @property
    def trainable(self) -> bool:
        """Whether training changes its parameters, at least in some period."""
        return self.period != NEVER


@dataclass(frozen=True, slots=True)
class Head:
    """The values that one of several losses reads."""

    name: str
    values: tuple[str, ...]
    training_only: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order, and the name of the node whose value is the network's output."""

    name: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    output_name: str
    heads: tuple[Head, ...] = ()  # of several losses; the output is then the main one's value
    _by_name: Mapping[str, Node] = field(init=False, repr=False, compare=False)
    _reads: Mapping[str, tuple[tuple[Node, int], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the nodes by name, and the readers of each value."""
        reads: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                reads.setdefault(name, []).append((node, position))
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})
        object.__setattr__(self, "_reads", {name: tuple(readers) for name, readers in reads.items()})

    @property
    def output(self) -> Node:
        """The node whose value is the network's output."""
        return self._by_name[self.output_name]

    def node(self, name: str) -> Node:
        """The node of that name."""
        return self._by_name[name]

    @property
    def needed(self) -> frozenset[str]:
        """The names of the nodes that the output or a loss depends on."""
        names = {self.output.name, *(value for head in self.heads for value in head.values)}
        for node in reversed(self.nodes):
            if node.name in names:
                names.update(node.inputs)
        return frozenset(names)

    @property
    def parameter_count(self) -> int:
        """The number of learned numbers in the whole network."""
        return sum(node.parameter_count for node in self.nodes)

    @property
    def without_losses(self) -> Graph:
        """This graph without its several losses, so that nothing reads the layers that they alone read."""
        return replace(self, heads=())

    @property
    def used_count(self) -> int:
        """The number of learned numbers without the layers that only training needs."""
        used = replace(self, heads=tuple(head for head in self.heads if not head.training_only))
        names = used.needed if self.heads else {node.name for node in self.nodes}
        owners = {node.share or node.name for node in self.nodes if node.name in names}
        return sum(node.parameter_count for node in self.nodes if node.name in owners)

    @property
    def trainable_count(self) -> int:
        """The number of learned numbers that training changes."""
        return sum(node.parameter_count for node in self.nodes if node.trainable)

    @property
    def macs(self) -> int:
        """The multiply-accumulates of one image's forward pass."""
        return sum(node.macs for node in self.nodes)

    @property
    def sharing(self) -> frozenset[str]:
        """The names of the nodes with tied parameters, owners included."""
        return frozenset(name for node in self.nodes if node.share for name in (node.name, node.share))

    def reads(self, name: str) -> tuple[tuple[Node, int], ...]:
        """Return the nodes that read a value, each with the position of that input."""
        return self._reads.get(name, ())

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read a value, once for each time they read it."""
        return tuple(node for node, _ in self.reads(name))
