"""Field types that serve as Python types, JSON Schema fragments, converters and documentation at once.

A registered class declares a field once, `filters: Annotated[PositiveInt, "output channels"]`; the schema, the
default, the conversion of YAML's values and the help text all follow from that line.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    Self,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
)

from cnnspec import registry
from cnnspec.shapes import MARGINS, NAMED_PADDINGS

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)  # hashed by identity: typing hashes the parts of a union
class Schema:
    """The JSON Schema fragment of an annotated type, and the function that converts a valid value to Python's."""

    fragment: Mapping[str, Any]
    convert: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Registered:
    """Marks a field whose value is an object of a registered kind: a bare name or a mapping with `type`.

    `example` is a valid value of the field, where not every object of the kind is allowed.
    """

    kind: str
    example: str | None = None


class Named(dict[str, T], Generic[T]):
    """An immutable mapping with names of the user's choice; hashable, as all values of a declaration are."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


_MULTIPLES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
COUNT_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,15})?[KMGT]$"
FIGURE_PATTERN = r"^validation\.[A-Za-z0-9_-]{1,100}\.[a-z_0-9]{1,30}$"  # for a figure of one of several losses
BYTES_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,15})? ?(B|KB|MB|GB|KiB|MiB|GiB)$"


def parse_count(value: int | str) -> int:
    """Return 2_500_000 for `2.5M`; a number is returned unchanged."""
    if isinstance(value, int):
        return value
    return round(float(value[:-1]) * _MULTIPLES[value[-1]])


def parse_bytes(value: int | str) -> int:
    """Return 67_108_864 for `64 MiB`; a number of bytes is returned unchanged."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"([0-9.]+) ?([A-Za-z]+)", value)
    assert match is not None, value
    return round(float(match[1]) * _BYTES[match[2].upper()])


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[1]) if isinstance(value, (list, tuple)) else (value, value)


def _colour(value: Any) -> tuple[int, int, int]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value, value)


def _padding(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _items(low: int, high: int, item: Json) -> Json:
    return {"type": "array", "items": item, "minItems": low, "maxItems": high}


_NATURAL: Json = {"type": "integer", "minimum": 1}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {"type": "number"}

PositiveInt = Annotated[int, Schema(_NATURAL)]
NonNegativeInt = Annotated[int, Schema(_WHOLE)]
_BYTE: Json = {"type": "integer", "minimum": 0, "maximum": 255}
Byte = Annotated[int, Schema(_BYTE)]
Colour = Annotated[tuple[int, int, int], Schema({"anyOf": [_BYTE, _items(3, 3, _BYTE)]}, _colour)]
BatchSize = Annotated[int, Schema({"type": "integer", "minimum": 1, "maximum": 100_000})]
ClassCount = Annotated[int, Schema({"type": "integer", "minimum": 1, "maximum": 100_000})]
Number = Annotated[float, Schema(_NUMBER, float)]
_EPOCHS: Json = {"type": "number", "exclusiveMinimum": 0, "examples": [10]}
Epochs = Annotated[float, Schema(_EPOCHS, lambda v: int(v) if v == int(v) else v)]
PositiveNumber = Annotated[float, Schema({"type": "number", "exclusiveMinimum": 0}, float)]
NonNegativeNumber = Annotated[float, Schema({"type": "number", "minimum": 0}, float)]
Fraction = Annotated[float, Schema({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, float)]
Pixels = Annotated[float, Schema({"type": "number", "exclusiveMinimum": 0, "maximum": 10_000}, float)]
UnitInterval = Annotated[float, Schema({"type": "number", "minimum": 0, "maximum": 1}, float)]
Angle = Annotated[float, Schema({"type": "number", "minimum": 0, "maximum": 180}, float)]
AtLeastOne = Annotated[float, Schema({"type": "number", "minimum": 1}, float)]
Pair = Annotated[tuple[int, int], Schema({"anyOf": [_NATURAL, _items(2, 2, _NATURAL)]}, _pair)]
ImageShape = Annotated[tuple[int, int, int], Schema(_items(3, 3, _NATURAL), tuple)]
_PADS = [_WHOLE, _items(2, 2, _WHOLE), _items(4, 4, _WHOLE)]
Padding = Annotated[str | int | tuple[int, ...], Schema({"anyOf": [{"enum": [*NAMED_PADDINGS]}, *_PADS]}, _padding)]
ConvolutionPadding = Annotated[
    str | int | tuple[int, ...], Schema({"anyOf": [{"enum": [*NAMED_PADDINGS, *MARGINS]}, *_PADS]}, _padding)
]
PerChannel = Annotated[
    tuple[float, ...],
    Schema(
        {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1}]},
        lambda v: tuple(float(i) for i in v) if isinstance(v, (list, tuple)) else (float(v),),
    ),
]
Count = Annotated[int, Schema({"anyOf": [_WHOLE, {"type": "string", "pattern": COUNT_PATTERN}]}, parse_count)]

_PARTS: Json = {"enum": ["class", "shares", "classes", "values"]}
TargetKinds = Annotated[  # the kind of target, or the kinds of several targets by name
    str | Named[str],
    Schema(
        {
            "anyOf": [
                {"enum": [*_PARTS["enum"], "mask"]},
                {
                    "type": "object",
                    "additionalProperties": _PARTS,
                    "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,100}$"},
                    "minProperties": 1,
                },
            ]
        },
        lambda value: Named(value) if isinstance(value, Mapping) else value,
    ),
]

_MISSING = object()
_PLAIN: dict[Any, Json] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    types.NoneType: {"type": "null"},
}
_NAMES = [kind.__name__ for kind in _PLAIN if kind is not types.NoneType]


def fragment(annotation: Any) -> Json:
    """Return the JSON Schema of a field's annotation; registered kinds become `$ref`s into `#/definitions/KIND`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *metadata = get_args(annotation)
        for item in metadata:
            if isinstance(item, Schema):
                return dict(item.fragment)
            if isinstance(item, Registered):
                examples = {"examples": [item.example]} if item.example else {}
                return {"$ref": f"#/definitions/{item.kind}", **examples}
        return fragment(base)
    if origin is Literal:
        return {"enum": list(get_args(annotation))}
    if origin in (Union, types.UnionType):
        return {"anyOf": [fragment(part) for part in get_args(annotation)]}
    if origin is tuple:
        return {"type": "array", "items": fragment(get_args(annotation)[0])}
    if origin is Named:
        return {"type": "object", "additionalProperties": fragment(get_args(annotation)[0]), "minProperties": 1}
    if isinstance(annotation, type) and issubclass(annotation, Declaration):
        return schema_of(annotation)
    if annotation not in _PLAIN:
        raise TypeError(f"{annotation} is no type of a field: take one of cnnspec.fields, or {', '.join(_NAMES)}")
    return dict(_PLAIN[annotation])


def convert(annotation: Any, value: Any) -> Any:
    """Convert a spec's value to the Python value of an annotation; a converted value is returned unchanged."""
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *metadata = get_args(annotation)
        for item in metadata:
            if isinstance(item, Schema):
                return item.convert(value)
            if isinstance(item, Registered):
                return create(item.kind, value)
        return convert(base, value)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        parts = [part for part in get_args(annotation) if part is not types.NoneType]
        return convert(parts[0], value) if len(parts) == 1 else value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(convert(get_args(annotation)[0], item) for item in value)
    if origin is Named:
        return Named({name: convert(get_args(annotation)[0], item) for name, item in value.items()})
    if isinstance(annotation, type) and issubclass(annotation, Declaration) and isinstance(value, Mapping):
        return annotation(**value)
    return float(value) if annotation is float else value


@dataclass(frozen=True)
class Option:
    """One declared field of a registered class, for schema, documentation and completion."""

    name: str
    annotation: Any
    schema: Json
    default: Any
    required: bool
    description: str


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Declaration:
    """Base of every class that a spec can name: its annotated attributes are its keys, converted on creation.

    Objects are immutable, compared by value, and created with keyword arguments. The class works like a frozen
    dataclass, but with one generic constructor: compiling a constructor for each of a hundred classes would take a
    third of the time of checking a file.
    """

    kind: ClassVar[str]
    type_name: ClassVar[str]

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        for option in options(cls):
            if option.required and option.name not in values:
                raise TypeError(f"{cls.__name__} needs {option.name}")
            value = values.pop(option.name, option.default)
            object.__setattr__(self, option.name, None if value is None else convert(option.annotation, value))
        if values:
            raise TypeError(f"{cls.__name__} has no {', '.join(values)}")

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Create an object from values as a spec writes them, such as `kernel_size=3` for a pair."""
        return cls(**values)

    def but(self, **changes: Any) -> Self:
        """Return a copy with some values changed."""
        return type(self)(**{**vars(self), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


_options: dict[type[Any], tuple[Option, ...]] = {}


def options(cls: type[Declaration]) -> tuple[Option, ...]:
    """Return the declared fields of a registered class, those of its bases first."""
    if cls not in _options:
        _options[cls] = tuple(_read_options(cls))
    return _options[cls]


def _read_options(cls: type[Declaration]) -> Iterator[Option]:
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        if get_origin(annotation) is not ClassVar:
            texts = [text for text in getattr(annotation, "__metadata__", ()) if isinstance(text, str)]
            default = getattr(cls, name, _MISSING)
            required = default is _MISSING
            description = texts[0] if texts else ""
            key = name.removesuffix("_")  # `from_` declares `from`, which Python takes for itself
            yield Option(key, annotation, fragment(annotation), None if required else default, required, description)


def create(kind: str, value: Any) -> Any:
    """Create an object of a registered kind from a bare name or from a mapping with `type`."""
    if isinstance(value, str):
        return registry.find(kind, value)()
    if isinstance(value, Mapping):
        rest = {key: item for key, item in value.items() if key != "type"}
        return registry.find(kind, value["type"])(**rest)
    return value


def schema_of(cls: type[Any]) -> Json:
    """Return the JSON Schema of a registered class's own keys; the caller adds its `type`."""
    properties: Json = {}
    for option in options(cls):
        properties[option.name] = dict(option.schema)
        if option.description:
            properties[option.name]["description"] = option.description
        if not option.required and isinstance(option.default, (str, int, float, bool)):
            properties[option.name]["default"] = option.default
    required = [option.name for option in options(cls) if option.required]
    return {"type": "object", "properties": properties, "required": required}
