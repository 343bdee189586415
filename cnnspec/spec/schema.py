"""The JSON Schema of specs, for editors: composed from the registered classes, draft-07.

A choice by `type` is written as `if type == X then X`, never as `oneOf`, so that an editor completes and reports within
the chosen type alone; unknown keys are reported by `propertyNames`. Types and ranges that a `$name` or `${...}` may
stand for are checked after expansion, so the editor takes such a text for any scalar.
"""

from __future__ import annotations

import json
from typing import Any

from cnnspec import registry
from cnnspec.data.settings import DataSettings
from cnnspec.fields import COUNT_PATTERN, Json, fragment, schema_of
from cnnspec.optim.settings import TrainSettings
from cnnspec.spec import texts
from cnnspec.spec.blocks import shipped
from cnnspec.spec.layers import MERGES, SHORTCUTS
from cnnspec.spec.load import BUDGETS, KEYS, MEASURED, METRICS, SCORED, VERSION
from cnnspec.spec.sweep import Sweep
from cnnspec.spec.words import elsewhere

ID = f"urn:cnnspec:schema:{VERSION}"
ANNOTATION: Json = {"pattern": "^x-"}
NAMED_FIGURE = f"^({'|'.join(SCORED)})\\.[A-Za-z0-9_-]+\\.({'|'.join(MEASURED)})$"
VARIABLE: Json = {"type": "string", "pattern": r"\$"}
REFERENCE: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_MOMENT: Json = {"anyOf": [{"type": "number", "minimum": 0}, VARIABLE]}
_SHAPE: Json = {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 1}, VARIABLE]}}
TRAINING: Json = {
    "trainable": {
        "anyOf": [
            {"type": "boolean"},
            {
                "type": "object",
                "properties": {
                    "from": {**_MOMENT, "description": "when its training begins"},
                    "until": {**_MOMENT, "description": "when its training ends"},
                },
                "additionalProperties": False,
            },
            VARIABLE,
        ],
        "description": "false keeps the parameters as they start, all that are inside; {from: 2, until: 5} trains them "
        "after 2 epochs and before 5 are over",
    },
    "rate_factor": {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, VARIABLE],
        "description": "by what the learning rate is multiplied here",
    },
}
COMMON: Json = {
    "id": {"type": "string", "description": "the layer's name"},
    "from": {**REFERENCE, "description": "the layers that it reads; the one above by default"},
    "when": {"description": "leaves the layer out where false"},
    "weight_decay": {"type": "number", "minimum": 0, "description": "instead of the optimizer's"},
    "share": {"type": "string", "description": "id of a layer above whose parameters are used here too"},
    **TRAINING,
}
NESTING: Json = {"id": {}, "from": REFERENCE, "when": {}, **TRAINING}


def schema_text() -> str:
    """Return the whole schema as the text of a file."""
    return json.dumps(schema(), indent=1) + "\n"


def schema() -> Json:
    """Return the whole schema as a JSON value."""
    definitions: Json = {kind: _kind(kind) for kind in registry.PACKAGES if kind != "layer"}
    definitions["layer"] = _layer()
    definitions["layers"] = {"type": "array", "items": {"$ref": "#/definitions/layer"}}
    for kind in registry.PACKAGES:
        for name, cls in registry.table(kind).items():
            definitions[f"{kind}.{name}"] = _described(cls, COMMON if kind == "layer" else {})
    properties: Json = {
        "cnnspec": {"const": VERSION, "description": "version of the language"},
        "plugins": {"type": "array", "items": {"type": "string"}, "description": "files that register types"},
        "name": {"type": "string", "description": "names the run directory"},
        "seed": {"type": "integer", "minimum": 0, "description": "of everything random"},
        "portable": {"type": "boolean", "description": "the same bits on every processor that has AVX2"},
        "input": {**_SHAPE, "description": "channels, height, width; the batch axis is implicit"},
        "inputs": {
            "type": "object",
            "additionalProperties": _SHAPE,
            "minProperties": 1,
            "description": "several inputs: the shape of each by its name, which layers read with from",
        },
        "layers": {"$ref": "#/definitions/layers"},
        "data": _section(DataSettings),
        "train": _section(TrainSettings),
        "expect": _strict({name: {} if name == "output" else _budget() for name in BUDGETS}),
        "require": _require(),
        "sweep": _section(Sweep),
        "vars": {"type": "object"},
        "blocks": {"type": "object", "additionalProperties": _block()},
        "extends": {"type": "string", "description": "a file that this one changes"},
    }
    assert set(properties) == set(KEYS)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "title": "cnnspec",
        **_strict(properties),
        "definitions": definitions,
    }


def _strict(properties: Json, required: tuple[str, ...] = ()) -> Json:
    names = {"anyOf": [{"enum": list(properties)}, ANNOTATION]}
    described = {name: _with_description(name, part) for name, part in properties.items()}
    schema: Json = {"type": "object", "properties": described, "propertyNames": names}
    return {**schema, "required": list(required)} if required else schema


def _with_description(name: str, part: Json) -> Json:
    """Return the schema of a key with a description, if it has none and one is known."""
    if "description" in part or name not in texts.KEYS:
        return part
    bare: Json = {"allOf": [part]} if "$ref" in part else part
    return {**bare, "description": texts.KEYS[name]}


def _or_variable(part: Json) -> Json:
    """Return the schema with a variable allowed in place of every scalar, at any depth."""
    if "$ref" in part:
        return part
    if "anyOf" in part:
        nested = [_or_variable(inner) if inner.get("type") in ("array", "object") else inner for inner in part["anyOf"]]
        return {**part, "anyOf": [*nested, VARIABLE]}
    match part.get("type"):
        case "array":
            return {**part, **{key: _or_variable(part[key]) for key in ("items", "contains") if key in part}}
        case "object" if "properties" in part:
            return {**part, "properties": {name: _or_variable(inner) for name, inner in part["properties"].items()}}
        case "object":  # a mapping with the user's own names
            return {**part, "additionalProperties": _or_variable(part["additionalProperties"])}
    return {"anyOf": [part, VARIABLE]}


def _described(cls: type[Any], common: Json) -> Json:
    schema = schema_of(cls)
    properties: Json = {"type": {"const": cls.type_name}, **common}
    for name, part in schema["properties"].items():
        notes = {key: part[key] for key in ("description", "default") if key in part}
        bare = {key: value for key, value in part.items() if key not in notes}
        words = elsewhere(name, ["key"])
        if words:
            notes["description"] = f"{notes.get('description', name)} (elsewhere: {', '.join(words)})"
        if "$ref" not in bare:
            properties[name] = {**_or_variable(bare), **notes}
        elif getattr(cls, name, ...) is None:
            properties[name] = {"if": {"type": "null"}, "else": bare, **notes}
        else:
            properties[name] = {"allOf": [bare], **notes}
    line = (cls.__doc__ or "").strip().split("\n")[0]
    words = elsewhere(cls.type_name, [cls.kind])
    line += f" Elsewhere: {', '.join(words)}." if words else ""
    return {"description": line, **_strict(properties, tuple(schema["required"]))}


def _section(cls: type[Any]) -> Json:
    schema = schema_of(cls)
    return {
        **_strict(schema["properties"], tuple(schema["required"])),
        "description": (cls.__doc__ or "").split("\n")[0],
    }


def _choice(kind: str) -> list[Json]:
    return [
        {
            "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
            "then": {"$ref": f"#/definitions/{kind}.{name}"},
        }
        for name in registry.table(kind)
    ]


def _kind(kind: str) -> Json:
    """Return the schema of a registered kind: a bare name, or a mapping with a type."""
    names = list(registry.table(kind))
    mapping: Json = {
        "properties": {"type": _with_description("type", {"enum": names})},
        "required": ["type"],
        "allOf": _choice(kind),
    }
    return {
        "type": ["string", "object"],
        "if": {"type": "string"},
        "then": {"anyOf": [{"enum": names}, VARIABLE]},
        "else": mapping,
    }


def _layer() -> Json:
    """Return the schema of a layer: a bare type or block, the use of a block, a mapping, or a list of layers."""
    names = list(registry.table("layer"))
    nested = _nested()
    typed: Json = {
        "properties": {"type": _with_description("type", {"enum": [*names, *nested]})},
        "required": ["type"],
        "allOf": [
            *_choice("layer"),
            *(
                {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": keys}
                for name, keys in nested.items()
            ),
        ],
    }
    group = _strict({"when": {}, "layers": {"$ref": "#/definitions/layers"}, **TRAINING}, ("layers",))
    return {
        "type": ["string", "object"],
        "if": {"type": "string"},
        "then": {"anyOf": [{"enum": [*names, *shipped().values]}, {"description": "a block of the spec"}]},
        "else": {
            "if": {"required": ["use"]},
            "then": _use(),
            "else": {"if": {"required": ["type"]}, "then": typed, "else": group},
        },
    }


def _nested() -> dict[str, Json]:
    """Return the schemas of the types that hold lists of layers or have several outputs, by name."""
    residual = _strict(
        {
            "type": {},
            **NESTING,
            "body": {"$ref": "#/definitions/layers"},
            "shortcut": _or_variable({"enum": list(SHORTCUTS)}),
        },
        ("body",),
    )
    parallel = _strict(
        {
            "type": {},
            **NESTING,
            "branches": {"type": "array", "items": {"$ref": "#/definitions/layers"}, "minItems": 2},
            "merge": _or_variable({"enum": list(MERGES)}),
        },
        ("branches",),
    )
    split = _strict(
        {
            "type": {},
            **NESTING,
            "parts": _or_variable({"type": "integer", "minimum": 2}),
            "sizes": _or_variable({"type": "array", "items": {"type": "integer", "minimum": 1}}),
        }
    )
    return {"residual": residual, "parallel": parallel, "split": split}


def _use() -> Json:
    """Return the schema of the use of a block."""
    parameters: Json = {"type": "object"}
    return _strict(
        {
            "use": {"type": "string"},
            **NESTING,
            "from": {
                "anyOf": [*REFERENCE["anyOf"], {"type": "object"}],
                "description": "what it reads",
            },
            "with": parameters,
            "repeat": _or_variable({"type": "integer", "minimum": 1}),
            "first": parameters,
            "last": parameters,
            "share": {
                "description": "id of a use whose parameters are used here too; true: those of the first repetition"
            },
        }
    )


def _block() -> Json:
    words: Json = {"type": "array", "items": {"type": "string"}}
    return _strict(
        {
            "params": {"type": "object", "description": "names with their defaults, or `required`"},
            "inputs": {**words, "description": "the names of what it reads, where that is several values"},
            "outputs": {"anyOf": [words, {"type": "object"}], "description": "what it makes: ids, or names of ids"},
            "layers": {"$ref": "#/definitions/layers"},
        },
        ("layers",),
    )


def _require() -> Json:
    """Return the schema of `require`: comparisons by figure; several losses add figures with their own names."""
    comparison: Json = {"type": "string", "pattern": "^(>=|<=|==|>|<)"}
    names = {"anyOf": [{"enum": list(METRICS)}, {"pattern": NAMED_FIGURE}, ANNOTATION]}
    properties = {name: {**comparison, "description": texts.metric(name)} for name in METRICS}
    return {"type": "object", "properties": properties, "additionalProperties": comparison, "propertyNames": names}


def _budget() -> Json:
    figure: Json = {"anyOf": [fragment(int), {"type": "string", "pattern": f"{COUNT_PATTERN}|B$"}]}
    return {"anyOf": [*figure["anyOf"], _strict({"min": figure, "max": figure})]}
