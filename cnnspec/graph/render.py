"""The resolved spec as YAML: blocks and variables expanded, every default written out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any

import yaml

from cnnspec.diagnostics import Span
from cnnspec.fields import Declaration, options
from cnnspec.graph.node import INPUT, Graph, Node
from cnnspec.optim.settings import UNITS
from cnnspec.period import Period
from cnnspec.spec.model import Budget, Spec
from cnnspec.spec.place import Place
from cnnspec.spec.reader import scalar


def render(spec: Spec, graph: Graph, *, origins: bool = False) -> str:
    """Return YAML that means the same as the spec, names each layer as the graph does, and needs no other file.

    With `origins`, each value has a line, followed by the place where it was written or a note that it is a default.
    """
    tree = resolved(spec, graph)
    if origins:
        return "".join(_with_origins(tree, spec, graph))
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


def resolved(spec: Spec, graph: Graph) -> dict[str, Any]:
    """Return a spec as a mapping of plain values, as it is rendered: all settings, defaults included."""
    tree: dict[str, Any] = {"cnnspec": 1}
    if spec.plugins:
        tree["plugins"] = [plugin.name for plugin in spec.plugins]
    tree |= {"name": spec.name, "seed": spec.seed} | ({"portable": True} if spec.portable else {})
    if spec.inputs:
        tree["inputs"] = {name: list(shape) for name, shape in spec.inputs.items()}
    else:
        tree["input"] = list(spec.input)
    above = next(iter(spec.inputs), INPUT)
    tree["layers"] = []
    for node in _layers(spec, graph):
        tree["layers"].append(_layer(node, above))
        above = node.name
    if spec.data is not None:
        tree["data"] = _declaration(spec.data)
    if spec.train is not None:
        tree["train"] = _fields(spec.train, without="loss" if graph.heads else "losses")
        for head in graph.heads:
            layer = list(head.values) if len(head.values) > 1 else head.values[0]
            tree["train"]["losses"][head.name] = (
                {"layer": layer} | tree["train"]["losses"][head.name] | {"layer": layer}
            )
    if spec.expect:
        tree["expect"] = {name: _budget(budget) for name, budget in spec.expect.items()}
    if spec.require:
        tree["require"] = {required.metric: f"{required.comparison} {required.bound!r}" for required in spec.require}
    return tree


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=inf)
    return str(text).removesuffix("...\n").strip()


def _layers(spec: Spec, graph: Graph) -> list[Node]:
    """The nodes of the spec's layers."""
    return [node for node in graph.nodes if node.name not in spec.inputs]


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes texts which YAML 1.2 would read as other types: PyYAML writes by YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    plain = isinstance(scalar(value), str) and not _ODD.search(value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_ODD = re.compile("[^ -~]")  # a character that is not printable ASCII
_Dumper.add_representer(str, _text)


def _with_origins(tree: dict[str, Any], spec: Spec, graph: Graph) -> Iterator[str]:
    for key, value in tree.items():
        if key == "layers":
            yield "layers:\n"
            for layer, node in zip(value, _layers(spec, graph), strict=True):
                yield from _numbered(_lines(layer, node.place, ""))
        elif isinstance(value, dict):
            yield f"{key}:\n"
            yield from _lines(value, spec.sections.get(key), "  ", key, spec.sections)
        else:
            yield _line("", key, value, _origin(spec.place, key))


def _numbered(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"  {'-' if number == 0 else ' '} {line}"


def _lines(
    values: dict[str, Any],
    place: Place | None,
    indent: str,
    path: str = "",
    sections: Mapping[str, Place] | None = None,
) -> Iterator[str]:
    """Yield the lines of a mapping; values of a section within it are looked up in that section's own place."""
    for key, value in values.items():
        inner = f"{path}.{key}"
        if isinstance(value, dict) and sections and inner in sections:
            yield f"{indent}{key}:\n"
            yield from _lines(value, sections[inner], f"{indent}  ", inner, sections)
        else:
            yield _line(indent, key, value, _origin(place, key))


def _line(indent: str, key: str, value: Any, origin: str) -> str:
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=1 << 20)
    return f"{f'{indent}{key}: {text.splitlines()[0]}':<50}  # {origin}\n"


def _origin(place: Place | None, key: str) -> str:
    if place is None or key not in place.values:
        return "default"
    uses = "".join(f", {use.message} at {_spot(use.span)}" for use in place.uses)
    return _spot(place.values[key]) + uses


def _spot(span: Span) -> str:
    return span.file if span.file == "--set" else f"{span.file}:{span.line}:{span.column}"


def _layer(node: Node, above: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": node.name, "type": node.layer.type_name}
    if node.inputs != (above,):
        entry["from"] = node.inputs[0] if len(node.inputs) == 1 else list(node.inputs)
    options = node_options(node)
    return (
        entry | layer_fields(node) | {key: value for key, value in options.items() if options[key] != UNSAID.get(key)}
    )


def layer_fields(node: Node) -> dict[str, Any]:
    """Return the fields that a layer's type declares as plain values, defaults included."""
    return _fields(node.layer)


def node_options(node: Node) -> dict[str, Any]:
    """Return a node's options beside its layer's fields: weight decay, `share`, or how it is trained."""
    options: dict[str, Any] = {}
    if node.weight_decay is not None:
        options["weight_decay"] = node.weight_decay
    if node.share:
        return {**options, "share": node.share}
    options["trainable"] = node.trainable and (_bounds(node.period) or True)
    options["rate_factor"] = node.rate_factor
    return options


UNSAID = {"trainable": True, "rate_factor": 1.0}  # options that need not be written out


def _bounds(period: Period) -> dict[str, float]:
    bounds = {"from": period.start, "until": period.stop}
    return {name: bound for name, bound in bounds.items() if 0 < bound < inf}


def _fields(declaration: Declaration, without: str = "") -> dict[str, Any]:
    return {
        option.name: _value(getattr(declaration, option.name))
        for option in options(type(declaration))
        if option.name != without and getattr(declaration, option.name) is not None
    }


def _declaration(declaration: Declaration) -> dict[str, Any]:
    kind = {} if declaration.kind == "section" else {"type": declaration.type_name}
    return {**kind, **_fields(declaration)}


def _value(value: Any) -> Any:
    if isinstance(value, Declaration):
        return _declaration(value)
    if isinstance(value, tuple) and len(value) == 2 and value[1] in UNITS:
        return f"{value[0]} {value[1]}"
    if isinstance(value, Mapping):
        return {name: _value(item) for name, item in value.items()}
    return [_value(item) for item in value] if isinstance(value, tuple) else value


def _budget(budget: Budget) -> Any:
    if budget.exact is not None:
        return list(budget.exact) if isinstance(budget.exact, tuple) else budget.exact
    bounds = {"min": budget.minimum, "max": budget.maximum}
    return {name: bound for name, bound in bounds.items() if bound is not None}
