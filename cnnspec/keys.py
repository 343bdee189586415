"""Every key that a spec can have, with its places and meanings, taken from the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from cnnspec import registry
from cnnspec.fields import Json
from cnnspec.listing import first_and_more
from cnnspec.spec.schema import COMMON, schema
from cnnspec.spec.words import elsewhere

NESTING = ("allOf", "anyOf", "if", "then", "else", "items", "additionalProperties")
MOST_PLACES = 12  # places named in a line

Meanings = Mapping[str, Sequence[str]]  # descriptions of a key, and the places where each holds


def keys() -> Mapping[str, Meanings]:
    """Return the meanings and places of every key: `conv2d`, `train.clip`, `a layer` for keys of all layers."""
    return _keys(frozenset(cls for kind in registry.PACKAGES for cls in registry.table(kind).values()))


@lru_cache(maxsize=4)
def _keys(registered: frozenset[type]) -> Mapping[str, Meanings]:
    """Return the keys for a set of registered classes, so that the result can be cached."""
    root = schema()
    meanings: dict[str, dict[str, list[str]]] = {}
    for place, part in _parts(root):
        for key, where, description in _walk(part, place):
            places = meanings.setdefault(key, {}).setdefault(description, [])
            if where not in places:
                places.append(where)
    return meanings


def key_page(key: str) -> str | None:
    """Return a page on a key, with a line for each meaning and its places; None if no spec has the key."""
    meanings = keys().get(key)
    if meanings is None:
        return None
    lines = []
    for meaning, places in meanings.items():
        lines.append(f"  of {first_and_more(places, MOST_PLACES)}{': ' if meaning else ''}{meaning}")
    words = elsewhere(key, ["key"])
    return "\n".join([f"{key} (key)", *lines, *([f"  Elsewhere: {', '.join(words)}"] if words else [])])


def _parts(root: Json) -> Iterator[tuple[str, Json]]:
    """Yield the spec's schema and each definition in it, with the name of the thing whose keys it declares."""
    yield "", {"properties": root["properties"]}
    yield "a layer", {"properties": COMMON}
    for name, part in root["definitions"].items():
        kind, _, subkind = name.partition(".")
        if kind == "layer" and subkind:
            part = {
                "properties": {key: description for key, description in part["properties"].items() if key not in COMMON}
            }
        yield subkind or ("a layer" if kind in ("layer", "layers") else f"any {kind}"), part


def _walk(part: Json, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, place and description of all keys in a part of the schema, without the definitions it refers to."""
    for key, inner in part.get("properties", {}).items():
        yield key, place or "the spec", inner.get("description", "").partition(" (elsewhere: ")[0]
        yield from _walk(inner, key if place in ("", "a layer") else f"{place}.{key}")
    for word in NESTING:
        for inner in part[word] if isinstance(part.get(word), list) else [part.get(word)]:
            if isinstance(inner, dict):
                yield from _walk(inner, place)
