"""Checks values against JSON Schema fragments, and says in words what was expected."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.validators import extend

from cnnspec.fields import BYTES_PATTERN, COUNT_PATTERN, FIGURE_PATTERN, Json


def _is_integer(_: Any, value: Any) -> bool:
    # JSON Schema takes 3.0 for an integer, and Python true for 1.
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_Strict: Any = extend(  # type: ignore[no-untyped-call]
    Draft7Validator,
    type_checker=Draft7Validator.TYPE_CHECKER.redefine("integer", _is_integer).redefine("number", _is_number),
)


@cache
def _validator(fragment: str) -> Any:
    return _Strict(json.loads(fragment))


def fits(fragment: Json, value: Any) -> bool:
    """Tell whether a plain value satisfies a schema fragment."""
    return bool(_validator(json.dumps(fragment)).is_valid(value))


def expected(fragment: Json) -> str:
    """Return a schema fragment in words: `an integer of at least 1`, `one of valid, same`, `a list of 2 numbers`."""
    if "anyOf" in fragment:
        return " or ".join(dict.fromkeys(expected(part) for part in fragment["anyOf"]))
    if "enum" in fragment:
        values = [str(value) for value in fragment["enum"]]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    if "$ref" in fragment:
        return "a name or a mapping with a type"
    kind = fragment.get("type")
    if kind == "array":
        count = fragment.get("minItems")
        size = f"{count} values" if count is not None and count == fragment.get("maxItems") else "values"
        contained = f", one of them {expected(fragment['contains'])}" if "contains" in fragment else ""
        each = f", each {expected(fragment['items'])}" if "items" in fragment else ""
        return f"a list of {size}{each}{contained}"
    if kind == "object" and isinstance(fragment.get("additionalProperties"), dict):
        return f"a mapping to values, each {expected(fragment['additionalProperties'])}"
    if kind == "string":
        if "pattern" not in fragment:
            return "a text"
        examples = {
            COUNT_PATTERN: "a count such as 2.5M",
            BYTES_PATTERN: "a size such as 64 MiB",
            FIGURE_PATTERN: "that of one of several losses, such as validation.NAME.loss",
        }
        return examples.get(fragment["pattern"], "a span such as 2 epochs, 500 steps or 10 minutes")
    words = {
        "integer": "an integer",
        "number": "a number",
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
    }
    bounds = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
    limits = [words_.format(fragment[key]) for key, words_ in bounds.items() if key in fragment]
    word = words.get(str(kind), "a value")
    return f"{word} {' and '.join(limits)}" if limits else word


def got(value: Any) -> str:
    """Return a value as a person would name it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "[" + ", ".join(got(item) for item in value) + "]" if len(value) <= 4 else "a list"
    return f"'{value}'" if isinstance(value, str) else f"{value!r}"
