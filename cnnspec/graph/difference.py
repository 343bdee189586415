"""The differences of two graphs: layers by name, with their shapes, parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec.graph.node import Graph, Node
from cnnspec.graph.render import layer_fields, node_options
from cnnspec.shapes import text


@dataclass(frozen=True, slots=True)
class Change:
    """A layer that differs between two graphs; `before` or `after` is None if that graph does not have it."""

    name: str
    before: Node | None
    after: Node | None
    details: tuple[str, ...]  # `filters 20 -> 32`

    @property
    def parameters(self) -> int:
        """The number of parameters that the new graph has more in this layer."""
        return (self.after.parameter_count if self.after else 0) - (self.before.parameter_count if self.before else 0)

    @property
    def macs(self) -> int:
        """The number of multiply-accumulates that the new graph has more in this layer."""
        return (self.after.macs if self.after else 0) - (self.before.macs if self.before else 0)


def difference(before: Graph, after: Graph) -> tuple[Change, ...]:
    """Return the changes in the order of the new graph, followed by the removed layers."""
    old = {node.name: node for node in before.nodes}
    new = {node.name: node for node in after.nodes}
    changes = [Change(name, old.get(name), node, _details(old.get(name), node)) for name, node in new.items()]
    removed = [Change(name, node, None, ()) for name, node in old.items() if name not in new]
    return tuple(change for change in changes if change.before is None or change.details) + tuple(removed)


def settings_difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[tuple[str, str | None, str | None], ...]:
    """Compare two resolved specs without their layers; return path, old and new value, None if there is no value.

    A path is written as `--set` takes it, such as `train.optimizer.learning_rate`.
    """
    old, new = (dict(_leaves({key: tree[key] for key in tree if key != "layers"})) for tree in (before, after))
    return tuple((path, old.get(path), new.get(path)) for path in _differing(old, new))


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    paths = [*new, *(path for path in old if path not in new)]
    return [path for path in paths if old.get(path) != new.get(path)]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every value in nested mappings that is not a mapping itself."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        elif isinstance(value, bool):
            yield f"{above}{key}", str(value).lower()
        elif isinstance(value, list) and all(isinstance(item, int | float) for item in value):
            yield f"{above}{key}", "x".join(map(str, value))
        else:
            yield f"{above}{key}", str(value)


def _details(before: Node | None, after: Node) -> tuple[str, ...]:
    if before is None:
        return ()
    changes = []
    if before.layer.type_name != after.layer.type_name:
        changes.append(f"type {before.layer.type_name} -> {after.layer.type_name}")
    else:
        old, new = dict(_leaves(layer_fields(before))), dict(_leaves(layer_fields(after)))
        changes += [f"{path} {old.get(path, 'none')} -> {new.get(path, 'none')}" for path in _differing(old, new)]
    if before.inputs != after.inputs:
        changes.append(f"from {', '.join(before.inputs)} -> {', '.join(after.inputs)}")
    if (before.parameter_count, before.macs) != (after.parameter_count, after.macs):
        old_inputs, new_inputs = (", ".join(map(text, node.input_shapes)) for node in (before, after))
        if old_inputs != new_inputs:
            changes.append(f"input {old_inputs} -> {new_inputs}")
    if before.shape != after.shape:
        changes.append(f"output {text(before.shape)} -> {text(after.shape)}")
    old, new = dict(_leaves(node_options(before))), dict(_leaves(node_options(after)))
    changes += [f"{path} {old.get(path, 'none')} -> {new.get(path, 'none')}" for path in _differing(old, new)]
    return tuple(changes)
