"""A spec as it is understood: blocks and variables expanded, every default written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import yaml

from cnnspec.fields import Declaration, options
from cnnspec.layers.base import Layer
from cnnspec.spec.model import Budget, Spec


class Resolved(Protocol):
    """A layer in its place, as the graph knows it."""

    @property
    def name(self) -> str:
        """Its id."""

    @property
    def layer(self) -> Layer:
        """Its type and fields."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The ids that it reads."""

    @property
    def weight_decay(self) -> float | None:
        """Its own weight decay, if any."""

    @property
    def trainable(self) -> bool:
        """Whether training changes it."""


def render(spec: Spec, layers: Sequence[Resolved]) -> str:
    """YAML that means the same, names every layer as the graph does, and needs no other file."""
    tree: dict[str, Any] = {"cnnspec": 1, "name": spec.name, "seed": spec.seed, "input": list(spec.input)}
    above = "input"
    tree["layers"] = []
    for resolved in layers:
        tree["layers"].append(_layer(resolved, above))
        above = resolved.name
    if spec.data is not None:
        tree["data"] = _declaration(spec.data)
    if spec.train is not None:
        tree["train"] = _declaration(spec.train)
    if spec.expect:
        tree["expect"] = {name: _budget(budget) for name, budget in spec.expect.items()}
    if spec.require:
        tree["require"] = {gate.metric: f"{gate.comparison} {gate.bound:g}" for gate in spec.require}
    return yaml.dump(tree, Dumper=yaml.SafeDumper, sort_keys=False, default_flow_style=None, width=120)


def _layer(resolved: Resolved, above: str) -> dict[str, Any]:
    made: dict[str, Any] = {"id": resolved.name, "type": resolved.layer.type_name}
    if resolved.inputs != (above,):
        made["from"] = resolved.inputs[0] if len(resolved.inputs) == 1 else list(resolved.inputs)
    made |= _fields(resolved.layer)
    if resolved.weight_decay is not None:
        made["weight_decay"] = resolved.weight_decay
    if not resolved.trainable:
        made["trainable"] = False
    return made


def _fields(declaration: Declaration) -> dict[str, Any]:
    return {
        option.name: _value(getattr(declaration, option.name))
        for option in options(type(declaration))
        if getattr(declaration, option.name) is not None
    }


def _declaration(declaration: Declaration) -> dict[str, Any]:
    kind = {} if declaration.kind == "section" else {"type": declaration.type_name}
    return {**kind, **_fields(declaration)}


def _value(value: Any) -> Any:
    if isinstance(value, Declaration):
        return _declaration(value)
    return [_value(item) for item in value] if isinstance(value, tuple) else value


def _budget(budget: Budget) -> Any:
    if budget.exact is not None:
        return list(budget.exact) if isinstance(budget.exact, tuple) else budget.exact
    bounds = {"min": budget.minimum, "max": budget.maximum}
    return {name: bound for name, bound in bounds.items() if bound is not None}
