"""Builds objects of the registered classes from checked values."""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from cnnspec import registry
from cnnspec.diagnostics import Fix, Related
from cnnspec.fields import Declaration, Named, Option, Registered, Schema, convert, fragment, options
from cnnspec.spec.check import expected, fits, got
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.grammar import is_name
from cnnspec.spec.reader import scalar
from cnnspec.spec.spelling import meaning, opens_parentheses, respelt
from cnnspec.spec.suggest import nearest
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, plain
from cnnspec.spec.words import value

MOST_CREATED = 4096
_declared: dict[type[Any], abc.Mapping[str, Option]] = {}  # what each class declares, by name
_created: dict[Hashable, Any] = {}  # objects by the text they were created from: a network has few different layers


class Typing:
    """Builds typed values; errors are reported at the key or at the value."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def value(self, annotation: Any, tree: Tree, where: Where) -> Any:
        """Return the Python value for a field's annotation; Wrong if it does not fit."""
        origin = get_origin(annotation)
        if origin is Annotated:
            base, *metadata = get_args(annotation)
            for item in metadata:
                if isinstance(item, Registered):
                    return self.registered(item.kind, tree, where)
                if isinstance(item, Schema):
                    return self.fitting(annotation, tree, where)
            return self.value(base, tree, where)
        if origin in (Union, types.UnionType):
            if isinstance(tree, Scalar) and tree.value is None:
                return None
            return self.value(next(part for part in get_args(annotation) if part is not types.NoneType), tree, where)
        if origin is tuple and isinstance(tree, Items):
            return self.items(get_args(annotation)[0], tree, where)
        if origin is Named:
            return self.named(get_args(annotation)[0], tree, where)
        if isinstance(annotation, type) and issubclass(annotation, Declaration):
            return self.section(annotation, tree, where)
        return self.fitting(annotation, tree, where)

    def items(self, annotation: Any, tree: Items, where: Where) -> tuple[Any, ...]:
        """Return the values of a list; Wrong, after all were checked, if any does not fit."""
        values, bad = [], False
        for position, item in enumerate(tree.items):
            try:
                values.append(self.value(annotation, item, where.down(position)))
            except Wrong:
                bad = True
        if bad:
            raise Wrong
        return tuple(values)

    def named(self, annotation: Any, tree: Tree, where: Where) -> Named[Any]:
        """Return the values of a mapping with names of the user's choice; Wrong, after the last, if one is wrong."""
        key = where.path.rpartition(".")[2]
        if not isinstance(tree, Mapping) or not tree.values:
            message = f"{key}: expected a mapping of names, got {got(plain(tree))}"
            raise self.findings.error("invalid-value", message, tree.span, where)
        values, bad = Named[Any](), False
        for name, item in tree.values.items():
            if name.startswith("x-"):
                continue
            try:
                if not is_name(name) or "." in name:
                    message = f"{key}: expected a name of letters, digits, dashes and underscores, got {got(name)}"
                    raise self.findings.error("invalid-value", message, tree.keys[name], where.down(name))
                values[name] = self.value(annotation, item, where.down(name))
            except Wrong:
                bad = True
        if bad:
            raise Wrong
        return values

    def fitting(self, annotation: Any, tree: Tree, where: Where) -> Any:
        """Return a value that satisfies the schema fragment of its annotation; else report it and raise Wrong."""
        value = plain(tree)
        if not _fits(annotation, value):
            fitting = fragment(annotation)
            name = where.path.rpartition(".")[2]
            hint, fix = self.cure(name, tree, lambda other: fits(fitting, other))
            message = f"{name}: expected {expected(fitting)}, got {got(value)}"
            given = _given(tree)
            # In a shipped block the error is in the value that the spec has given.
            span = next((place.span for place in given if place.span.file != tree.span.file), tree.span)
            raise self.findings.error("invalid-value", message, span, where, help=hint, related=given, fix=fix)
        return convert(annotation, value)

    @staticmethod
    def cure(key: str, tree: Tree, right: Callable[[Any], bool]) -> tuple[str | None, Fix | None]:
        """Return the corrected value as a line of help and as a fix; None for each that is not known."""
        given = plain(tree)
        if isinstance(tree, Scalar) and not tree.plain and right(scalar(given)):
            return "remove the quotes", Fix(tree.span, given, f"remove the quotes around {given}")
        text = respelt(key.partition("[")[0], given)
        if text is None or not right(meaning(text)):
            return None, None
        fix = Fix(tree.span, text, f"write {text}") if isinstance(tree, Scalar) and not tree.given else None
        return f"write {text}", fix

    def section(self, cls: type[Any], tree: Tree, where: Where) -> Any:
        """Build an object of a class whose keys form a section of their own."""
        if not isinstance(tree, Mapping):
            name = where.path.rpartition(".")[2]
            raise self.findings.error(
                "invalid-value", f"{name}: expected a mapping, got {got(plain(tree))}", tree.span, where
            )
        return self.create(cls, tree, where)

    def registered(self, kind: str, tree: Tree, where: Where) -> Any:
        """Build an object of a registered kind from a bare name, or a mapping with `type`."""
        if isinstance(tree, Mapping):
            given = tree.get("type")
            if given is None:
                raise self.without_type(kind, tree, where, ("type",), f"add type: {_some(kind)}")
        else:
            given = tree
        if not isinstance(given, Scalar) or not isinstance(given.value, str):
            raise self.findings.error(
                "invalid-value",
                f"expected the name of a {kind} or a mapping with a type, got {got(plain(given))}",
                given.span,
                where,
                help=f"for example {_some(kind)}",
            )
        try:
            cls = registry.find(kind, given.value)
        except KeyError:
            raise self.unknown_type(kind, given, where) from None
        body = tree.without("type") if isinstance(tree, Mapping) else Mapping({}, {}, tree.span)
        return self.create(cls, body, where)

    def unknown_type(self, kind: str, given: Scalar, where: Where) -> Wrong:
        """Report a type that a kind lacks; some words of other frameworks mean that the key is left out here."""
        key, known = where.path.rpartition(".")[2], registry.table(kind)
        text = value(key, given.value)
        if text is None:
            return self.findings.unknown("unknown-type", kind, given.value, known, given.span, where, place=kind)
        help = f"write {text}" + (f", or leave {key} out" if text == "null" else "")
        fix, message = Fix(given.span, text, f"write {text}"), f"unknown {kind} '{given.value}'"
        return self.findings.error("unknown-type", message, given.span, where, help=help, fix=fix)

    def without_type(self, kind: str, tree: Mapping, where: Where, names: tuple[str, ...], help: str) -> Wrong:
        """Report a mapping without `type`: its key is misspelt, the type's name is used as a key, or it is missing."""
        table = registry.table(kind)
        for key, span in tree.keys.items():
            if key in table:
                message = f"expected a mapping with type: {key}, got {key} as a key"
                return self.findings.error("invalid-value", message, span, where, help=f"write {{type: {key}, ...}}")
            if nearest(key, names) and not key.startswith("x-"):
                return self.findings.unknown("unknown-key", f"key of a {kind}", key, names, span, where.down(key))
        return self.findings.error("missing-key", f"{kind} without a type", tree.span, where, help=help)

    def create(self, cls: type[Any], tree: Mapping, where: Where, common: Collection[str] = ()) -> Any:
        """Build an object from its keys; `common` keys are also allowed, and read elsewhere."""
        if cls not in _declared:
            _declared[cls] = {option.name: option for option in options(cls)}
        declared = _declared[cls]
        written = _written(cls, tree, declared, common)
        if written in _created:
            return _created[written]
        tree = tree.without(*common)
        title = getattr(cls, "type_name", None) or where.path
        place = f"{where.path.partition('.')[0] if cls.kind == 'section' else cls.kind} key"
        misspelt = self.known_keys(tree, [*declared, *common], where, noun=f"key of {title}", place=place)
        values, bad = {}, False
        for name, option in declared.items():
            given = tree.get(name)
            if given is None:
                bad = bad or name in misspelt
                if option.required and name not in misspelt:
                    self.findings.error(
                        "missing-key",
                        f"{title}: {name} is missing ({option.description})",
                        tree.span,
                        where,
                        help=f"add {name}: {expected(option.schema) if '$ref' not in option.schema else '...'}",
                    )
                    bad = True
                continue
            if isinstance(given, Scalar) and given.value is None and option.default is None and not option.required:
                continue
            if isinstance(given, Scalar) and opens_parentheses(given.value):
                bad = True  # it is reported together with the keys after it
                continue
            try:
                values[name] = self.value(option.annotation, given, where.down(name))
            except Wrong:
                bad = True
        if bad:
            raise Wrong
        created = cls(**values)
        if written is not None:
            if len(_created) >= MOST_CREATED:
                _created.clear()
            _created[written] = created
        return created

    def known_keys(self, tree: Mapping, names: Collection[str], where: Where, noun: str, place: str = "") -> set[str]:
        """Report every key that is not in `names`, except x- annotations; return the names that were probably meant."""
        named: set[str] = set()
        rest = self.parentheses(tree, where)
        for key, span in tree.keys.items():
            if key not in names and key not in rest and not key.startswith("x-"):
                self.findings.unknown("unknown-key", noun, key, names, span, where.down(key), place=place)
                named.update(nearest(key, names, count=1))
        return named

    def parentheses(self, tree: Mapping, where: Where) -> set[str]:
        """Report each `key: (3, 3)`, which YAML reads as a text and further keys; return those further keys."""
        rest: set[str] = set()
        open_key, pieces = "", []
        for key, span in tree.keys.items():
            given = tree.values[key]
            value: Any = given.value if isinstance(given, Scalar) else ...
            if open_key and value is None:
                pieces.append(key)
                rest.add(key)
                if key.endswith(")"):
                    start, written = tree.values[open_key].span, ", ".join(pieces)
                    text = f"[{written.strip('()')}]"
                    extent = replace(start, end_line=span.end_line, end_column=span.end_column)
                    message = f"{open_key}: expected a list in brackets, got {written}"
                    fix = Fix(extent, text, f"write {text}")
                    place = where.down(open_key)
                    self.findings.error("invalid-value", message, extent, place, help=f"write {text}", fix=fix)
                    open_key = ""
            else:
                open_key = key if opens_parentheses(value) else ""
                pieces = [value]
        return set() if open_key else rest


def _given(tree: Tree) -> tuple[Related, ...]:
    """Return the places that gave the names in this value, or in the items of this list, their values."""
    if isinstance(tree, Items):
        return tuple(place for item in tree.items for place in _given(item))
    return tree.given if isinstance(tree, Scalar) else ()


def _written(
    cls: type[Any], tree: Mapping, declared: abc.Mapping[str, Option], common: Collection[str]
) -> Hashable | None:
    """Return a key by which equal objects are reused; None unless all values are scalars under known keys."""
    written: list[Any] = [cls]
    for key, given in tree.values.items():
        if key in declared:
            # A parameter of a block can be a list or a mapping.
            if not isinstance(given, Scalar) or isinstance(given.value, (list, dict)) or "$ref" in declared[key].schema:
                return None
            # 1, 1.0 and true are equal, so the kind counts.
            written += key, type(given.value), given.value, given.plain
        elif key not in common:
            return None
    return tuple(written)


def _fits(annotation: Any, value: Any) -> bool:
    if isinstance(value, (int, float, str)):
        return _fits_scalar(annotation, type(value).__name__, value)
    return fits(fragment(annotation), value)


@lru_cache(maxsize=4096)  # the layers of a network have few different values
def _fits_scalar(annotation: Any, kind: str, value: Any) -> bool:  # 1, 1.0 and true are equal, so the kind counts
    return fits(fragment(annotation), value)


def _some(kind: str) -> str:
    return next(iter(registry.table(kind)))
