"""The positioned tree: the content of a YAML file, every value with the place where it was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cnnspec.diagnostics import Related, Span
from cnnspec.spec.place import Place


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, a text, true, false or null; `plain` if it was written without quotes."""

    value: Any
    span: Span
    plain: bool = True
    given: tuple[Related, ...] = ()  # the places that gave its variables their values

    @property
    def varies(self) -> bool:
        """Whether it may contain a variable."""
        return isinstance(self.value, str) and "$" in self.value


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence of values, each with its own span."""

    items: tuple[Tree, ...]
    span: Span
    varies: bool = field(init=False, repr=False, compare=False)  # whether there may be a variable in it

    def __post_init__(self) -> None:
        """Set `varies`: whether any item may contain a variable."""
        object.__setattr__(self, "varies", any(item.varies for item in self.items))


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping: keys in their order, each with its own span and its value."""

    keys: dict[str, Span]
    values: dict[str, Tree]
    span: Span
    varies: bool = field(init=False, repr=False, compare=False)  # whether there may be a variable in it

    def __post_init__(self) -> None:
        """Set `varies`: whether any value may contain a variable."""
        object.__setattr__(self, "varies", any(value.varies for value in self.values.values()))

    def get(self, key: str) -> Tree | None:
        """Return the value of a key, or None if the mapping lacks the key."""
        return self.values.get(key)

    def with_value(self, key: str, value: Tree) -> Mapping:
        """Return a copy in which a key has another value."""
        keys = {**self.keys, key: self.keys.get(key, value.span)}
        return Mapping(keys, {**self.values, key: value}, self.span)

    def without(self, *keys: str) -> Mapping:
        """Return the mapping without some keys: itself where it has none of them."""
        if self.keys.keys().isdisjoint(keys):
            return self
        return Mapping(
            {key: span for key, span in self.keys.items() if key not in keys},
            {key: value for key, value in self.values.items() if key not in keys},
            self.span,
        )


Tree = Scalar | Items | Mapping


class Where(NamedTuple):
    """The path of a value in the spec, and the uses of blocks around it."""

    path: str = ""
    uses: tuple[Related, ...] = ()

    def down(self, key: str | int) -> Where:
        """Return the path of a value under this one: a key of a mapping or a position in a list."""
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if self.path else key
        return Where(self.path + step, self.uses)

    def used(self, message: str, span: Span) -> Where:
        """Return the same path, inside a block that is used at another place."""
        return Where(self.path, (*self.uses, Related(message, span)))


def plain(tree: Tree) -> Any:
    """Return the value as Python lists, dictionaries and scalars, without places."""
    match tree:
        case Scalar():
            return tree.value
        case Items():
            return [plain(item) for item in tree.items]
        case Mapping():
            return {key: plain(value) for key, value in tree.values.items()}


def place_of(tree: Tree, where: Where) -> Place:
    """Return the place of a value, for stages that do not see the tree."""
    if isinstance(tree, Mapping):
        values = {key: value.span for key, value in tree.values.items()}
        return Place(tree.span, tree.keys, values, where.path, where.uses)
    return Place(tree.span, path=where.path, uses=where.uses)
