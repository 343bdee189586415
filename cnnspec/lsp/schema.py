"""Looks up a place in the schema of specs: its valid keys and values, and their documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from cnnspec import registry
from cnnspec.fields import Json
from cnnspec.lsp.cursor import Step
from cnnspec.spec.schema import schema

KINDS: dict[str, type] = {
    "string": str,
    "array": list,
    "object": dict,
    "null": type(None),
    "boolean": bool,
    "integer": int,
}


class Schema:
    """The schema of specs, including the types that plugins in use register."""

    def __init__(self) -> None:
        names = tuple((kind, name) for kind in registry.PACKAGES for name in registry.table(kind))
        self.whole = _schema(names)

    def at(self, steps: Sequence[Step], whole: Any) -> list[Json]:
        """Return the parts of the schema that apply at a path of steps, within a spec with this value."""
        found, value = list(self.parts(self.whole, whole)), whole
        for step in steps:
            value = _below(value, step)
            found = [part for above in found for below in _children(above, step) for part in self.parts(below, value)]
        return found

    def parts(self, part: Json, value: Any) -> Iterator[Json]:
        """Yield a part and all parts that it refers to or combines, if their conditions hold for a value."""
        yield part
        if "$ref" in part:
            yield from self.parts(self.whole["definitions"][part["$ref"].rpartition("/")[2]], value)
        if "if" in part:
            branch = part.get("then" if _holds(part["if"], value) else "else")
            if branch is not None:
                yield from self.parts(branch, value)
        for inner in (*part.get("allOf", ()), *part.get("anyOf", ())):
            yield from self.parts(inner, value)


@lru_cache(maxsize=4)
def _schema(names: tuple[tuple[str, str], ...]) -> Json:
    """Return the schema, cached by the registered names, on which alone it depends."""
    return schema()


def _below(value: Any, step: Step) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


def _children(part: Json, step: Step) -> list[Json]:
    if isinstance(step, int):
        return [part["items"]] if isinstance(part.get("items"), dict) else []
    if step in part.get("properties", {}):
        return [part["properties"][step]]
    rest = part.get("additionalProperties")
    return [rest] if isinstance(rest, dict) else []


def _holds(condition: Json, value: Any) -> bool:
    """Tell whether a condition holds for a value; only the kinds of condition in the schema of specs are supported."""
    if "type" in condition and not isinstance(value, KINDS[condition["type"]]):
        return False
    given = value if isinstance(value, dict) else {}
    if any(key not in given for key in condition.get("required", ())):
        return False
    properties = condition.get("properties", {})
    return all(given[key] == part["const"] for key, part in properties.items() if key in given and "const" in part)
