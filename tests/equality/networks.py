"""Random specs over every registered layer, loss and optimizer, with options drawn from their own schema.

A new layer, loss or optimizer joins by being registered: what it may be given is read from the schema of its fields,
and whether it fits where it was put is asked of its `infer_shape`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import yaml
from jsonschema import Draft202012Validator

from cnnspec import registry
from cnnspec.diagnostics import SpecError
from cnnspec.fields import create, schema_of
from cnnspec.graph import build
from cnnspec.layers.base import Layer
from cnnspec.shapes import Shape, ShapeError
from cnnspec.spec import Spec, loads
from cnnspec.target import Target
from tests.equality.result import Setup

Content = dict[str, Any]  # a spec or a part of one, as YAML has it

NUMBERS = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 3.0)
# where the whole range of the schema makes no sense: steps that diverge, masks that no other library draws
USUAL: Mapping[str, Sequence[Any]] = {
    "learning_rate": (0.003, 0.01, 0.03),
    "weight_decay": (0.0, 0.001, 0.01, 0.1),
    "epsilon": (1e-5, 1e-3, 0.1),
    "beta1": (0.5, 0.9),
    "beta2": (0.9, 0.99),
    "memory": (0.5, 0.9),
    "filters": (1, 2, 3, 4, 6, 8, 12),
    "units": (1, 2, 3, 5, 8, 16),
    "kernel_size": (1, 2, 2, 3, 3, 4, 5, [1, 3], [3, 2]),
    "stride": (1, 2, 2, 3, [1, 2], [2, 1]),
    "padding": ("valid", "same", "same", "same_lower", "half", 0, 1, 2, [0, 1], [1, 0], [1, 0, 0, 1], [0, 2, 1, 1]),
    "groups": (1, 2, 3, 4),
    "order": ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]),
    "rate": (0.0,),
    "std": (0.0, 0.1, 1.0),
}
COMMON: Mapping[str, Sequence[Any]] = {"kernel_size": (2, 3), "stride": (1, 2), "padding": ("valid", "same", "half")}
SIZED = {"filters", "units", "kernel_size"}  # options of the layers that most networks are made of
ALWAYS = {"rate", "std"}  # given even where it could be left out
MOST_PARAMETERS = 100_000
MOST_SCRATCH = 300_000  # numbers in one array of a layer, for one image: attention has one for every pair of pixels
BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 31, 32, 33, 40, 64)


@dataclass(frozen=True)
class Case:
    """A network and how it is trained: a spec, and for how many steps."""

    content: Content
    steps: int = 1

    @property
    def text(self) -> str:
        """The spec as a person would write it: `from` only where a layer reads another than the one above."""
        shown = copy.deepcopy(self.content)
        above = "input"
        for layer in shown["layers"]:
            if layer.get("from") == [above]:
                del layer["from"]
            above = layer["id"]
        read = {name for layer in shown["layers"] for name in [*layer.get("from", ()), layer.get("share")]}
        for layer in shown["layers"]:
            if layer["id"] not in read:
                del layer["id"]
        lines = [f"{key}: {_flow(shown[key])}" for key in ("cnnspec", "input")]
        lines += ["layers:", *(f"  - {_flow(layer)}" for layer in shown["layers"]), f"train: {_flow(shown['train'])}"]
        return "\n".join(lines) + "\n"

    @property
    def spec(self) -> Spec:
        """The spec, checked."""
        return loads(self.text)

    @property
    def is_valid(self) -> bool:
        """Whether the spec is right, and its loss fits the network's output."""
        try:
            setup = self.setup
            assert setup.spec.train is not None
            setup.spec.train.loss.check(setup.graph.output.shape, Target(), setup.graph.input_shape)
        except (SpecError, ShapeError):
            return False
        return setup.graph.parameter_count < MOST_PARAMETERS

    @property
    def setup(self) -> Setup:
        """What is trained."""
        spec = self.spec
        return Setup(spec, build(spec), int(self.content["train"]["batch_size"]), self.steps)


def _flow(value: Any) -> str:
    return (
        str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)).removesuffix("...\n").strip()
    )


def draw(seed: int, steps: int = 1, **usual: Sequence[Any]) -> Case:
    """The case of a seed; `usual` says what some fields are drawn from instead."""
    random = np.random.default_rng(seed)
    while True:
        common = COMMON if random.random() < 0.5 else {}
        case = Case(_Drawing(random, {**USUAL, **common, **usual}).content(), steps)
        if case.is_valid:
            return case


def layers_that(accept: Any) -> list[str]:
    """The registered layers of which an object without options is accepted."""
    found = []
    for name, cls in registry.table("layer").items():
        if not schema_of(cls)["required"] and accept(cls()):
            found.append(name)
    return found


def is_activation(layer: Layer) -> bool:
    """Whether a layer may follow another as its `activation`."""
    shape = (3, 4, 5)
    try:
        return layer.arity == (1, 1) and layer.infer_shape(shape) == shape and not layer.params(shape)
    except ShapeError:
        return False


def layers_with_one_row_a_channel() -> list[str]:
    """The registered layers whose weights `weight_norm` takes apart."""
    return [name for name, cls in registry.table("layer").items() if cls.scales == "weight"]


@dataclass
class _Drawing:
    """One attempt to draw a spec."""

    random: np.random.Generator
    usual: Mapping[str, Sequence[Any]]
    values: dict[str, Shape] = field(default_factory=dict)  # by the name of what makes them
    layers: list[Content] = field(default_factory=list)

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def content(self) -> Content:
        large = self.chance(0.5)  # enough for workers to divide the rows of a map among them
        least, longest, self.most = (12, 36, 24_000) if large else (1, 13, 1_500)
        channels = int(self.random.integers(1, 5))
        height, width = (int(length) for length in self.random.integers(least, longest + 1, 2))
        self.values["input"] = (channels, height, width) if self.chance(0.95) else (channels * 5,)
        names = self.some_types()
        for _ in range(int(self.random.integers(1, 11))):
            for _ in range(30):  # until one fits
                if self.add(self.pick(names)):
                    break
        train = self.train()
        if self.chance(0.7):
            self.leave_out_unread()
        batches = [batch for batch in BATCHES if not large or batch <= 32]
        train = {"epochs": 1, "batch_size": self.pick(batches), **train}
        return {"cnnspec": 1, "input": list(self.values["input"]), "layers": self.layers, "train": train}

    def some_types(self) -> list[str]:
        """Layers for one network: all, or a few that then meet often, those with windows or units four times as likely.

        Source: Groce et al., "Swarm testing" (2012).
        """
        names = list(registry.table("layer"))
        if self.chance(0.3):
            return names
        likely = np.array(
            [1 + 3 * bool(SIZED & {*schema_of(registry.find("layer", name))["required"]}) for name in names]
        )
        count = int(self.random.integers(3, 8))
        return [str(name) for name in self.random.choice(names, count, replace=False, p=likely / likely.sum())]

    def add(self, name: str) -> bool:
        cls = registry.find("layer", name)
        options = self.options(cls)
        sources = self.sources(cls)
        content: Content = {"type": name, **options}
        shapes = [self.values[source] for source in sources]
        own = {key: value for key, value in options.items() if key != "activation"}
        try:
            layer: Layer = cls(**own)
            shape = layer.infer_shape(*shapes)
            params = layer.params(*shapes)
        except (ShapeError, TypeError):
            return False
        if not 0 < prod(shape) <= self.most or len(shape) not in (1, 3):
            return False
        scratch = layer.scratch(*shapes, n=1, mode="train").values()
        if max((prod(buffer.shape) for buffer in scratch), default=0) > MOST_SCRATCH:
            return False
        if params:
            owners = [other for other in self.layers if other["type"] == name and "share" not in other]
            if owners and self.chance(0.5):
                owner = self.pick(owners)
                content = {**{k: v for k, v in owner.items() if k not in ("id", "trainable", "weight_decay")}}
                content["share"] = owner["id"]
                try:
                    shape = create(
                        "layer", {k: v for k, v in content.items() if k not in ("share", "from", "activation")}
                    ).infer_shape(*shapes)
                except ShapeError:
                    return False
            else:
                if self.chance(0.07):
                    content["trainable"] = False
                if self.chance(0.1):
                    content["weight_decay"] = self.pick(self.usual["weight_decay"])
        self.append(content, sources, shape)
        return True

    def append(self, content: Content, sources: Sequence[str], shape: Shape) -> None:
        name = f"l{len(self.layers)}"
        self.layers.append({"id": name, **content, "from": list(sources)})
        self.values[name] = shape

    def sources(self, cls: type[Any]) -> list[str]:
        names = list(self.values)
        first = names[-1] if self.chance(0.75) else self.pick(names)
        fewest, most = cls.arity
        if most == 1:
            return [first]
        count = int(self.random.integers(max(fewest, 1), (most or 3) + 1))
        fitting = [name for name in names if self.fits(self.values[name], self.values[first])]
        return [first, *(self.pick(fitting) for _ in range(count - 1))]

    def fits(self, shape: Shape, other: Shape) -> bool:
        return self.chance(0.2) or shape == other or (len(shape) == len(other) == 3 and shape[1:] == other[1:])

    def options(self, cls: type[Any]) -> Content:
        schema = schema_of(cls)
        drawn = {}
        for name, part in schema["properties"].items():
            if name in schema["required"] or name in ALWAYS or self.chance(0.45):
                value = self.value(name, part)
                if value is not None:
                    drawn[name] = value
        return drawn

    def value(self, name: str, part: Mapping[str, Any]) -> Any:
        """A value that fits a part of a schema; None to leave the field out."""
        if name in self.usual:
            value = self.pick(self.usual[name])
            if Draft202012Validator(part).is_valid(value):
                return value
        if "anyOf" in part:
            return self.value(name, self.pick(part["anyOf"]))
        if "enum" in part:
            return self.pick(part["enum"])
        if name == "layer":
            chosen = self.pick(layers_with_one_row_a_channel())
            return {"type": chosen, **self.options(registry.find("layer", chosen))}
        if "$ref" in part:
            return self.pick(layers_that(is_activation)) if part["$ref"].endswith("/layer") else None
        kind = part["type"]
        if kind == "array":
            low = part.get("minItems", 1)
            length = int(self.random.integers(low, part.get("maxItems", max(low, 3)) + 1))
            items = [self.value("", part["items"]) for _ in range(length)]
            return self.reshaped() if name == "shape" else items
        if kind == "object":
            properties = part.get("properties", {})  # not of a map from names to numbers
            inner = {key: self.value(key, value) for key, value in properties.items() if self.chance(0.5)}
            return {key: value for key, value in inner.items() if value is not None}
        if kind == "boolean":
            return self.chance(0.5)
        if kind == "integer":
            low = part.get("minimum", 0)
            return low + min(int(self.random.geometric(0.6)) - 1, part.get("maximum", low + 4) - low)
        if kind == "number":
            return self.pick([number for number in NUMBERS if _within(number, part)])
        return None

    def reshaped(self) -> list[int]:
        """The lengths of another value with as many elements, as often as not."""
        shape = list(self.values[list(self.values)[-1]])
        if len(shape) == 3 and self.chance(0.5):
            return [int(length) for length in self.random.permutation(shape)]
        return [prod(shape)] if self.chance(0.5) else [prod(shape), 1, 1]

    def train(self) -> Content:
        loss, classes = self.loss()
        name = self.pick(list(registry.table("optimizer")))
        train: Content = {"loss": loss, "optimizer": {"type": name, **self.options(registry.find("optimizer", name))}}
        if self.chance(0.25):
            train["clip"] = {self.pick(["norm", "value"]): self.pick([0.01, 0.1, 1.0])}
        if self.chance(0.2):
            train["accumulate"] = self.pick([2, 3])
        if self.chance(0.2):
            train["ema"] = self.pick([0.5, 0.9])
        self.head(loss, classes)
        return train

    def loss(self) -> tuple[Content, int]:
        name = self.pick(list(registry.table("loss")))
        classes = int(self.random.integers(2, 6))
        loss = {"type": name, **self.options(registry.find("loss", name))}
        if loss.get("target") == "input":  # which has no classes
            loss.pop("class_weights", None)
        if loss.get("class_weights") is not None:
            loss["class_weights"] = [self.pick([0.5, 1.0, 2.0]) for _ in range(classes)]
        return loss, classes

    def head(self, loss: Content, classes: int) -> None:
        """What brings the last value to the shape that the loss wants."""
        last = list(self.values)[-1]
        target = self.values["input"] if loss.get("target") == "input" else (classes,)
        if self.values[last] == target and self.layers and self.layers[-1]["type"] != "flatten":
            return
        if len(self.values[last]) == 3:
            self.append({"type": "flatten"}, [last], (prod(self.values[last]),))
        self.append({"type": "dense", "units": prod(target)}, [list(self.values)[-1]], (prod(target),))
        if len(target) == 3:
            self.append({"type": "reshape", "shape": list(target)}, [list(self.values)[-1]], target)

    def leave_out_unread(self) -> None:
        read = {self.layers[-1]["id"]}
        for layer in reversed(self.layers):
            if layer["id"] in read:
                read |= {*layer["from"], layer.get("share")}
        self.layers = [layer for layer in self.layers if layer["id"] in read]


def _within(number: float, part: Mapping[str, Any]) -> bool:
    low, high = part.get("minimum", -np.inf), part.get("maximum", np.inf)
    above, below = part.get("exclusiveMinimum", -np.inf), part.get("exclusiveMaximum", np.inf)
    return bool(low <= number <= high and above < number < below)


def drawn(seeds: range, steps: int) -> Iterator[Case]:
    """The cases of many seeds."""
    return (draw(seed, steps) for seed in seeds)
