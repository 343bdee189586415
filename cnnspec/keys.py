"""Every key that a spec can have: where it may stand, and what it means there. Read off the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from cnnspec import registry
from cnnspec.fields import Json
from cnnspec.spec.schema import COMMON, schema
from cnnspec.spec.words import elsewhere

NESTING = ("allOf", "anyOf", "if", "then", "else", "items", "additionalProperties")
MOST_PLACES = 12  # that a line names

Meanings = Mapping[str, Sequence[str]]  # descriptions of a key, and the places where each holds


def keys() -> Mapping[str, Meanings]:
    """What every key means and where it may stand: `conv2d`, `train.clip`, `a layer` for what every layer has."""
    return _keys(frozenset(cls for kind in registry.PACKAGES for cls in registry.table(kind).values()))


@lru_cache(maxsize=4)
def _keys(registered: frozenset[type]) -> Mapping[str, Meanings]:
    """The same while these classes are what there is."""
    whole = schema()
    found: dict[str, dict[str, list[str]]] = {}
    for place, part in _parts(whole):
        for key, where, description in _walk(part, place):
            places = found.setdefault(key, {}).setdefault(description, [])
            if where not in places:
                places.append(where)
    return found


def key_page(key: str) -> str | None:
    """What a key means, a line for each meaning with the places that have it; None where no spec has such a key."""
    meanings = keys().get(key)
    if meanings is None:
        return None
    lines = [f"  of {_listed(places)}{': ' if what else ''}{what}" for what, places in meanings.items()]
    words = elsewhere(key, ["key"])
    return "\n".join([f"{key} (key)", *lines, *([f"  Elsewhere: {', '.join(words)}"] if words else [])])


def _parts(whole: Json) -> Iterator[tuple[str, Json]]:
    """The spec itself and each definition of the schema, by the name of what has its keys."""
    yield "", {"properties": whole["properties"]}
    yield "a layer", {"properties": COMMON}
    for name, part in whole["definitions"].items():
        kind, _, own = name.partition(".")
        if kind == "layer" and own:
            part = {"properties": {key: told for key, told in part["properties"].items() if key not in COMMON}}
        yield own or ("a layer" if kind in ("layer", "layers") else f"any {kind}"), part


def _walk(part: Json, place: str) -> Iterator[tuple[str, str, str]]:
    """All keys below a part of the schema but for what it refers to: key, place and description."""
    for key, inner in part.get("properties", {}).items():
        yield key, place or "the spec", inner.get("description", "").partition(" (elsewhere: ")[0]
        yield from _walk(inner, key if place in ("", "a layer") else f"{place}.{key}")
    for word in NESTING:
        for inner in part[word] if isinstance(part.get(word), list) else [part.get(word)]:
            if isinstance(inner, dict):
                yield from _walk(inner, place)


def _listed(places: Sequence[str]) -> str:
    more = len(places) - MOST_PLACES
    return ", ".join(places[:MOST_PLACES]) + (f" and {more} more" if more > 0 else "")
