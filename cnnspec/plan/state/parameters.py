"""All parameters in one flat array, all running statistics in another; layers see views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from cnnspec.graph import Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.optim.settings import RateFactors
from cnnspec.period import ALWAYS, Period
from cnnspec.shapes import Shape
from cnnspec.workers import shared

ALIGNMENT = 16  # elements: slices of the flat array start at a cache line
NO_FACTORS = RateFactors()
LARGE = 1 << 14  # elements: a parameter of this size is updated by itself, as soon as its gradient is complete


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one parameter in the flat array."""

    node: Node
    name: str
    shape: Shape
    start: int

    @property
    def key(self) -> str:
        """The name of the parameter in checkpoints and `Model.params`, such as `conv2d_1.weight`."""
        return f"{self.node.name}.{self.name}"

    @property
    def stop(self) -> int:
        """One past the parameter's last element."""
        return self.start + prod(self.shape)


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """The settings of training that all parameters of a segment share."""

    weight_decay: float = 0.0
    rate_factor: float = 1.0  # the learning rate is multiplied by it
    period: Period = ALWAYS  # the part of the training in which they are trained


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of the flat array that one rule applies to."""

    start: int
    stop: int
    rule: Rule


class Weights:
    """The parameters and running statistics of a network, which outlive its plans.

    Parameters lie in the order of their rules, so that the optimizer works on few long segments. Parameters without a
    gradient, which are frozen or have no influence on the output, come last, outside of every segment.
    """

    def __init__(
        self,
        graph: Graph,
        weight_decay: float = 0.0,
        dtype: str = "float32",
        factors: RateFactors = NO_FACTORS,
    ) -> None:
        groups: dict[Rule | None, list[tuple[Node, str, Shape]]] = {}
        used = {node.share or node.name for node in graph.nodes if node.name in graph.needed}
        for node in graph.nodes:
            if node.share:
                continue
            decay = weight_decay if node.weight_decay is None else node.weight_decay
            for name, parameter in node.params.items():
                factor = node.rate_factor * getattr(factors, _kind(node, name))
                trained = Rule(decay if parameter.decays else 0.0, factor, node.period)
                group = trained if node.trainable and node.name in used else None
                groups.setdefault(group, []).append((node, name, parameter.shape))
        self.slots: list[Slot] = []
        self.segments: list[Segment] = []
        end = 0
        for rule, parameters in sorted(groups.items(), key=lambda item: (item[0] is None, item[0] or Rule())):
            start = end
            for node, name, shape in parameters:
                self.slots.append(Slot(node, name, shape, end))
                end = -(-(end + prod(shape)) // ALIGNMENT) * ALIGNMENT
            if rule is not None:
                self.segments.append(Segment(start, end, rule))
        self._by_key = {slot.key: slot for slot in self.slots}
        self.values: Array = shared((end,), dtype)
        self.params: dict[str, Array] = {
            slot.key: self.values[slot.start : slot.stop].reshape(slot.shape) for slot in self.slots
        }
        states = {f"{node.name}.{name}": state for node in graph.nodes for name, state in node.state.items()}
        self.shapes: dict[str, Shape] = {key: state.shape for key, state in states.items()}
        self.statistics: Array = shared((sum(map(prod, self.shapes.values())),), dtype)
        self.state: dict[str, Array] = self.state_in(self.statistics)
        for key, state in states.items():
            self.state[key].fill(state.fill)
        self.version = 0  # changes with every update, so that plans know when prepared arrays are stale
        self.exposed = False  # whether a caller holds the arrays and may write to them at any time

    @property
    def trained(self) -> int:
        """The number of elements that an optimizer changes: they come first in the flat array."""
        return self.segments[-1].stop if self.segments else 0

    def initialise(self, seed: int) -> None:
        """Fill every parameter; its values depend on the seed and on its place in the alphabetical order of all.

        So the order of layers and their weight decay change no initial value, but an id that sorts elsewhere does.
        """
        order = sorted(range(len(self.slots)), key=lambda i: self.slots[i].key)
        for index, position in enumerate(order):
            slot = self.slots[position]
            parameter = slot.node.params[slot.name]
            random = np.random.default_rng([seed, index])
            parameter.initializer.fill(self.params[slot.key], parameter.fans, random)
        self.version += 1

    def slots_within(self, segment: Segment) -> list[Slot]:
        """The parameters of a segment, in the order in which they lie."""
        return [slot for slot in self.slots if segment.start <= slot.start < segment.stop]

    def ranges(self, node: Node) -> dict[str, tuple[int, int]]:
        """The place of a node's parameters in the flat array, (start, stop) by their names within the node."""
        slots = {name: self._by_key[key] for name, key in node.keys.items()}
        return {name: (slot.start, slot.stop) for name, slot in slots.items()}

    def views(self, flat: Array, node: Node) -> dict[str, Array]:
        """One node's parameters, or their gradients, as views of a flat array."""
        return {name: self._view(flat, self._by_key[key]) for name, key in node.keys.items()}

    @staticmethod
    def _view(flat: Array, slot: Slot) -> Array:
        return flat[slot.start : slot.stop].reshape(slot.shape)

    def node_state(self, node: Node) -> dict[str, Array]:
        """One node's running statistics."""
        return {name: self.state[f"{node.name}.{name}"] for name in node.state}

    def state_in(self, flat: Array) -> dict[str, Array]:
        """All running statistics by name, as views of a flat array such as `statistics`."""
        ends = np.cumsum([prod(shape) for shape in self.shapes.values()]).tolist()
        return {
            key: flat[end - prod(shape) : end].reshape(shape)
            for (key, shape), end in zip(self.shapes.items(), ends, strict=True)
        }

    def trained_in(self, flat: Array) -> dict[str, Array]:
        """The parameters that an optimizer changes, by name, as views of a flat array such as `values`."""
        return {slot.key: self._view(flat, slot) for slot in self.slots if slot.stop <= self.trained}

    def averaged_in(self, values: Array, statistics: Array) -> dict[str, Array]:
        """All trained parameters and statistics by name, as views of flat arrays such as `values` and `statistics`."""
        return self.trained_in(values) | self.state_in(statistics)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """The arrays that a checkpoint of the network holds, by name."""
        yield from sorted(self.params.items())
        yield from sorted(self.state.items())

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Copy the values of these arrays, by name; KeyError or ValueError if names or shapes differ."""
        fill(dict(self.arrays()), arrays)
        self.version += 1


def _kind(node: Node, name: str) -> str:
    """The kind of a parameter, which is the key of its factor in `rate_factors`."""
    if node.layer.normalises:
        return "norm"
    return "bias" if name.endswith("bias") else "weight"


def fill(targets: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
    """Copy `arrays` into `own`, by name; KeyError or ValueError, before anything changes, if names or shapes differ."""
    for name, array in targets.items():
        if arrays[name].shape != array.shape:
            raise ValueError(f"{name}: expected shape {array.shape}, got {arrays[name].shape}")
    for name, array in targets.items():
        array[...] = arrays[name]
