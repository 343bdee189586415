"""What changed between two graphs: layers by name, with their shapes, parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspec.fields import options
from cnnspec.graph.node import Graph, Node
from cnnspec.shapes import text


@dataclass(frozen=True, slots=True)
class Change:
    """A layer that differs between two graphs; `before` or `after` is None where a graph does not have it."""

    name: str
    before: Node | None
    after: Node | None
    details: tuple[str, ...]  # `filters 20 -> 32`

    @property
    def parameters(self) -> int:
        """How many parameters it has more in the new graph."""
        return (self.after.parameter_count if self.after else 0) - (self.before.parameter_count if self.before else 0)

    @property
    def macs(self) -> int:
        """How many multiply-accumulates it takes more in the new graph."""
        return (self.after.macs if self.after else 0) - (self.before.macs if self.before else 0)


def difference(before: Graph, after: Graph) -> tuple[Change, ...]:
    """Return the changes in the order of the new graph, followed by what was removed."""
    old = {node.name: node for node in before.nodes}
    new = {node.name: node for node in after.nodes}
    changes = [Change(name, old.get(name), node, _details(old.get(name), node)) for name, node in new.items()]
    removed = [Change(name, node, None, ()) for name, node in old.items() if name not in new]
    return tuple(change for change in changes if change.before is None or change.details) + tuple(removed)


def _details(before: Node | None, after: Node) -> tuple[str, ...]:
    if before is None:
        return ()
    found = []
    if before.layer.type_name != after.layer.type_name:
        found.append(f"type {before.layer.type_name} -> {after.layer.type_name}")
    else:
        for option in options(type(after.layer)):
            old, new = getattr(before.layer, option.name), getattr(after.layer, option.name)
            if old != new:
                found.append(f"{option.name} {_shown(old)} -> {_shown(new)}")
    if before.inputs != after.inputs:
        found.append(f"from {', '.join(before.inputs)} -> {', '.join(after.inputs)}")
    if (before.parameter_count, before.macs) != (after.parameter_count, after.macs):
        old_inputs, new_inputs = (", ".join(map(text, node.input_shapes)) for node in (before, after))
        if old_inputs != new_inputs:
            found.append(f"input {old_inputs} -> {new_inputs}")
    if before.shape != after.shape:
        found.append(f"output {text(before.shape)} -> {text(after.shape)}")
    for name, old, new in (
        ("weight_decay", before.weight_decay, after.weight_decay),
        ("trainable", before.trainable, after.trainable),
    ):
        if old != new:
            found.append(f"{name} {_shown(old)} -> {_shown(new)}")
    return tuple(found)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(getattr(value, "type_name", value))
