"""How much an image of each class counts in a loss: a list, a mapping from names, or `balanced`."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal

from cnnspec.fields import Named, Schema


class NamedWeights(Named[float]):
    """Weights by the names of classes; those without one count 1."""


def _class_weights(value: Any) -> Any:
    if value == "balanced":
        return value
    named = isinstance(value, Mapping)
    weights = [float(weight) for weight in (value.values() if named else value)]
    if not all(0 <= weight < inf for weight in weights) or not (any(weights) or (named and weights)):
        raise ValueError(f"class_weights: expected numbers of at least 0, one of them above 0, got {weights}")
    return NamedWeights(zip(map(str, value), weights, strict=True)) if named else tuple(weights)


ClassWeights = Annotated[
    tuple[float, ...] | NamedWeights | Literal["balanced"],
    Schema(
        {
            "anyOf": [
                {"enum": ["balanced"]},
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0},
                    "minItems": 1,
                    "contains": {"type": "number", "exclusiveMinimum": 0},
                },
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}, "minProperties": 1},
            ]
        },
        _class_weights,
    ),
]
