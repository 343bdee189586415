"""The network during translation: layers with their arrays, and for each value of the file the layer that computes it.

A value's elements lie in the same order in the file and in the layer's output, whatever shape the file gives them:
reshaping costs nothing until an operator needs another shape than the layer has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

import cnnspec.layers  # noqa: F401  (layers register themselves)
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.refusal import Unknown, Unsaid
from cnnspec.convert.simplify import Lengths, Simplified
from cnnspec.fields import create
from cnnspec.graph import INPUT
from cnnspec.kernels.step import Array
from cnnspec.registry import table
from cnnspec.shapes import Shape, ShapeError

MOST_VALUES = 1 << 28  # numbers in one value, for all images that the file takes at once
NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST_NAME = 60
OF_NUMBERS = frozenset(  # layers that compute each number from one number alone
    """
    abs clip elu exp gelu hard_sigmoid hard_swish leaky_relu mish relu relu6 selu sigmoid silu softplus square tanh
    """.split()  # noqa: SIM905  (a table of names)
)


@dataclass(slots=True)
class Draft:
    """A layer of the spec to be written: its fields as in YAML, and its arrays by the layer's own names."""

    key: str
    type: str
    fields: dict[str, Any]
    sources: list[str]
    shape: Shape
    arrays: dict[str, Array]
    named: bool  # whether the file gives it a meaningful name
    origin: tuple[str, ...]  # the constants that the operator reads, by their names
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the file: the layer that computes it, its shape there, and its shape in the file, the batch first."""

    layer: str
    shape: Shape
    lengths: Lengths
    alone: bool  # no other layer reads it, so its layer may be changed

    @property
    def canonical(self) -> Shape:
        """The shape of a map or vector for the file's shape: (n, c, l) is a map of one row."""
        axes = self.lengths[1:]
        if len(axes) < 2:
            return axes or (1,)
        return (axes[0], 1, axes[1]) if len(axes) == 2 else (axes[0], axes[1], prod(axes[2:]))


class Network:
    """The translated layers, in the order in which they were added."""

    def __init__(self, source: Simplified) -> None:
        self.source = source
        self.readers = Counter(name for operator in source.operators for name in operator.inputs)
        self.readers[source.output] += 1
        self.drafts: dict[str, Draft] = {}
        self.counts: Counter[str] = Counter()
        self.inputs: dict[str, Shape] = {}  # shapes by the key of an input, which is its name in the spec
        self.values: dict[str, Value] = {}
        for entry in source.entries:
            key = INPUT if len(source.entries) == 1 else self._input_key(entry)
            value = Value(key, (), source.lengths[entry], False)
            self.inputs[key] = value.canonical
            self.values[entry] = replace(value, shape=value.canonical)

    def constant(self, operator: Operator, position: int) -> Array | None:
        """Return a constant input of the operator; None if it has no such input, Unsaid if the input is computed."""
        name = operator.inputs[position] if position < len(operator.inputs) else ""
        if not name:
            return None
        if name in self.values:
            raise Unsaid(f"its input {position + 1} is computed from the image", "an input that is a constant")
        if name not in self.source.constants:
            raise Unknown(f"its input {position + 1}, '{name}', is unknown")
        return self.source.constants[name]

    def is_constant(self, operator: Operator, position: int) -> bool:
        """Tell whether an input of the operator is a constant."""
        return position < len(operator.inputs) and operator.inputs[position] in self.source.constants

    def setting(self, operator: Operator, name: str, position: int, default: Any = None) -> Any:
        """Return a setting that older opsets keep in an attribute and newer ones in a constant input."""
        if operator.attributes.get(name) is not None:
            return operator.attributes[name]
        value = self.constant(operator, position)
        return default if value is None else value.tolist()

    def read(self, operator: Operator, position: int = 0) -> Value:
        """Return an input of the operator; Unsaid if it is a constant or unknown."""
        name = operator.inputs[position] if position < len(operator.inputs) else ""
        if name not in self.values:
            if name in self.source.constants:
                raise Unsaid(f"its input {position + 1} is a constant")
            raise Unknown(f"its input {position + 1}, '{name}', is unknown")
        return self.values[name]

    def lengths(self, operator: Operator) -> Lengths:
        """Return the shape of the operator's output; Unsaid if it is not known."""
        if operator.output not in self.source.lengths:
            raise Unsaid("the shape of its output is not known")
        return self.source.lengths[operator.output]

    def add(
        self,
        operator: Operator,
        type: str,
        sources: Sequence[Value],
        fields: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        *,
        note: str = "",
        nameless: bool = False,
    ) -> Value:
        """Add a layer that reads some values; Unsaid, with the layer's own message, if they do not fit.

        The layer has the operator's name in the file, unless `nameless` says that it is an auxiliary layer. A function
        of single numbers goes before a permutation, which the permutation of a later operator may then undo.
        """
        given = dict(fields or {})
        source, order = self.before_permutation(sources[0])
        if order and len(sources) == 1 and not arrays and type in OF_NUMBERS:
            value = self.add(operator, type, [source], given, note=note, nameless=nameless)
            return replace(self.permuted(operator, value, order), lengths=sources[0].lengths)
        try:
            layer = create("layer", {"type": type, **given})
            shapes = [source.shape for source in sources]
            shape = layer.infer_shape(*shapes)
            wanted = {**layer.params(*shapes), **layer.state(*shapes)}
        except (ShapeError, TypeError, ValueError) as error:
            raise Unsaid(f"{type}: {error}", getattr(error, "help", None) or "") from error
        if prod(shape) * self.source.batch > MOST_VALUES:
            raise Unsaid(f"{type}: it makes {prod(shape) * self.source.batch:,} numbers", f"at most {MOST_VALUES:,}")
        for name, array in (arrays or {}).items():
            if wanted[name].shape != array.shape:
                raise Unsaid(f"{type}: expected {name} of shape {wanted[name].shape}, got {array.shape}")
            if not np.isfinite(array).all():
                raise Unsaid(f"{type}: some numbers of its {name} are not finite")
        key, named = self._key(None if nameless else operator, type)
        origin = tuple(name for name in operator.inputs if name in self.source.constants)
        draft = Draft(key, type, given, [source.layer for source in sources], shape, {}, named, origin)
        draft.arrays = {name: np.asarray(array, np.float32) for name, array in (arrays or {}).items()}
        draft.notes += [note] if note else []
        self.drafts[key] = draft
        lengths = sources[0].lengths if shape == sources[0].shape else (self.source.batch, *shape)
        return Value(key, shape, lengths, True)

    def write(self, operator: Operator, value: Value, lengths: Lengths | None = None, position: int = 0) -> None:
        """Record the value of an output of the operator; Unsaid if it mixes images or has another size."""
        name = operator.outputs[position]
        lengths = lengths or self.source.lengths.get(name)
        if lengths is None:
            raise Unsaid("the shape of its output is not known")
        batch = self.source.batch
        if not lengths or lengths[0] != batch or prod(lengths[1:]) != prod(value.shape):
            raise Unsaid(f"it makes {list(lengths)} of a batch of {batch}, which moves elements between images")
        self.values[name] = Value(value.layer, value.shape, lengths, value.alone and self.readers[name] == 1)

    def shaped(self, operator: Operator, value: Value, shape: Shape) -> Value:
        """Return the value in another shape with as many elements, by a `flatten` or `reshape` if necessary."""
        if value.shape == shape:
            return value
        kind = "flatten" if len(shape) == 1 else "reshape"
        fields = {} if kind == "flatten" else {"shape": list(shape)}
        made = self.add(operator, kind, [value], fields, nameless=True)
        return Value(made.layer, shape, value.lengths, value.alone)

    def canonical(self, operator: Operator, value: Value) -> Value:
        """Return the value in the shape of a map or vector that corresponds to its shape in the file."""
        return self.shaped(operator, value, value.canonical)

    def map(self, operator: Operator, position: int = 0) -> Value:
        """Return an input of the operator as a map; Unsaid if it has no or too many spatial axes."""
        value = self.read(operator, position)
        if len(value.lengths) not in (3, 4):
            raise Unsaid(f"it works on {len(value.lengths) - 2} spatial axes, maps have two", "maps of two axes")
        return self.canonical(operator, value)

    def permuted(self, operator: Operator, value: Value, order: Sequence[int]) -> Value:
        """Return a map with its axes in another order; a permutation merges with the one before it."""
        draft = self.drafts.get(value.layer)
        if draft is not None and draft.type == "permute":
            order = [draft.fields["order"][axis] for axis in order]
            source = draft.sources[0]
            shape = self.inputs[source] if source in self.inputs else self.drafts[source].shape
            value = Value(source, shape, value.lengths, False)
        if list(order) == [0, 1, 2]:
            return value
        made = self.add(operator, "permute", [value], {"order": list(order)}, nameless=True)
        return Value(made.layer, made.shape, value.lengths, value.alone)

    def before_permutation(self, value: Value) -> tuple[Value, list[int]]:
        """Return the value that a permutation turns into this one, and its order; the value and [] if there is none."""
        draft = self.drafts.get(value.layer)
        if draft is None or draft.type != "permute" or draft.sources[0] in self.inputs:
            return value, []
        source = self.drafts[draft.sources[0]]
        readers = sum(other.sources.count(source.key) for other in self.drafts.values())
        known = [other.alone for other in self.values.values() if other.layer == source.key]
        alone = value.alone and readers == 1 and all(known)
        return Value(source.key, source.shape, (self.source.batch, *source.shape), alone), draft.fields["order"]

    def changeable(self, value: Value, *types: str) -> Draft | None:
        """Return the layer that computes a value, if it has one of the types and no other reader; else None."""
        draft = self.drafts.get(value.layer)
        return draft if draft is not None and value.alone and draft.type in types else None

    def _key(self, operator: Operator | None, type: str) -> tuple[str, bool]:
        """Return a unique key for a layer, and whether it comes from a name in the file."""
        names = () if operator is None else (operator.name, operator.output)
        found = next(filter(None, (_cleaned(name, operator.type) for name in names if operator)), "")
        kind, _, number = found.rpartition("_")
        if not found or found == INPUT or (number.isdigit() and kind in table("layer")):
            self.counts[type] += 1
            return f":{type}:{self.counts[type]}", False
        return self._free(found), True

    def _input_key(self, entry: str) -> str:
        cleaned = NO_NAME.sub("_", entry).strip("_-")[:LONGEST_NAME]
        return self._free(f"{INPUT}_1" if cleaned in ("", INPUT) else cleaned)

    def _free(self, name: str) -> str:
        """Return the name, with a number if it is taken."""
        key, count = name, 1
        while key in self.drafts or key in self.inputs:
            count += 1
            key = f"{name}_{count}"
        return key


def _cleaned(name: str, operator: str) -> str:
    """Return a name of the file as an id: path parts without repetitions; empty if it only numbers operators."""
    parts = [part for part in name.split("/") if part]
    is_default = bool(parts) and re.fullmatch(rf"(?i){re.escape(operator)}(_output)?(_\d+)*", parts[-1])
    if is_default:
        parts.pop()  # of a path to a module, in which a letter and a number are a name that someone gave
    if parts and re.fullmatch(r"\d+" if is_default else r"[A-Za-z]?_?\d+", parts[-1]):
        parts = []
    words = [
        part for place, part in enumerate(parts) if not "".join(parts[place + 1 : place + 2]).startswith(f"{part}.")
    ]
    cleaned = NO_NAME.sub("_", "_".join(words)).strip("_-")
    return cleaned[:LONGEST_NAME]
