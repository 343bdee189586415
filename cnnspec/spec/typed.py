"""Builds objects of the registered classes from checked values."""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Union, get_args, get_origin

from cnnspec import registry
from cnnspec.diagnostics import Fix, Related
from cnnspec.fields import Declaration, Json, Named, Option, Registered, Schema, convert, fragment, options
from cnnspec.spec.check import expected, fits, got
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.grammar import is_name
from cnnspec.spec.reader import scalar
from cnnspec.spec.spelling import glued, meaning, opens_parentheses, respelt
from cnnspec.spec.suggest import nearest
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, plain
from cnnspec.spec.words import meant, value

MOST_CREATED = 4096
_declared: dict[type[Any], abc.Mapping[str, Option]] = {}  # what each class declares, by name
_created: dict[Hashable, Any] = {}  # objects by the text they were created from: a network has few different layers


class Typing:
    """Builds typed values; errors are reported at the key or at the value."""

    def __init__(self, findings: Findings, variables: abc.Mapping[str, Any]) -> None:
        self.findings, self.variables = findings, variables

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
            place, fitting, tree = _misfit(fragment(annotation), tree)
            name = where.path.rpartition(".")[2] + place
            hint, fix = self.cure(name, tree, lambda other: fits(fitting, other))
            message = f"{name}: expected {expected(fitting)}, got {got(plain(tree))}"
            given = _given(tree)
            # In a shipped block the error is in the value that the spec has given.
            span = next((place.span for place in given if place.span.file != tree.span.file), tree.span)
            raise self.findings.error("invalid-value", message, span, where, help=hint, related=given, fix=fix)
        return convert(annotation, value)

    def cure(self, key: str, tree: Tree, right: Callable[[Any], bool]) -> tuple[str | None, Fix | None]:
        """Return the corrected value as a line of help and as a fix; None for each that is not known."""
        given = plain(tree)
        if isinstance(tree, Scalar) and not tree.plain and right(scalar(given)):
            return "remove the quotes", Fix(tree.span, given, f"remove the quotes around {given}")
        name = given.strip("{} ") if isinstance(given, str) else ""
        if name in self.variables and right(self.variables[name]):
            text = f"${name}"
        else:
            text = respelt(key.partition("[")[0], given) or ""
            if not text or not right(meaning(text)):
                return None, None
        fix = Fix(tree.span, text, f"write {text}") if isinstance(tree, Scalar) and not tree.given else None
        return f"write {text}", fix

    def section(self, cls: type[Any], tree: Tree, where: Where) -> Any:
        """Build an object of a class whose keys form a section of their own."""
        if not isinstance(tree, Mapping):
            name, given = where.path.rpartition(".")[2], plain(tree)
            text = self.first_key(cls, given)
            help = text and f"write {name}: {text}"
            fix = (
                Fix(tree.span, text, f"write {text}") if text and isinstance(tree, Scalar) and not tree.given else None
            )
            message = f"{name}: expected a mapping, got {got(given)}"
            raise self.findings.error("invalid-value", message, tree.span, where, help=help, fix=fix)
        return self.create(cls, tree, where)

    @staticmethod
    def first_key(cls: type[Any], given: Any) -> str | None:
        """Return the mapping that is meant by a value in its place: true, or the value of its first fitting key."""
        declared = options(cls)
        if given is True and not any(option.required for option in declared):
            return "{}"
        if isinstance(given, bool) or not isinstance(given, (int, float, str)):
            return None
        for option in declared:
            kind = str(option.schema.get("$ref", "")).rpartition("/")[2]
            text = respelt(option.name, given) if isinstance(given, str) else None
            for written in (str(given), text):
                if written is None:
                    continue
                if written in registry.table(kind) if kind else _fits(option.annotation, meaning(written)):
                    return f"{{{option.name}: {written}}}"
        return None

    def registered(self, kind: str, tree: Tree, where: Where) -> Any:
        """Build an object of a registered kind from a bare name, or a mapping with `type`."""
        if isinstance(tree, Mapping):
            given = tree.get("type")
            if given is None:
                raise self.without_type(kind, tree, where, ("type",), f"add type: {_with_article(kind)}")
        else:
            given = tree
        if not isinstance(given, Scalar) or not isinstance(given.value, str):
            raise self.findings.error(
                "invalid-value",
                f"{where.path.rpartition('.')[2]}: expected a name or a mapping with a type, got {got(plain(given))}",
                given.span,
                where,
                help=f"for example {_with_article(kind)}",
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
            if self.unspaced(key, tree, where):
                return Wrong()
            if nearest(key, names) and not key.startswith("x-"):
                return self.findings.unknown("unknown-key", f"key of a {kind}", key, names, span, where.down(key))
        alone = plain(tree.values["activation"]) if list(tree.keys) == ["activation"] else None
        help = f"write - {alone}" if alone in table else help
        return self.findings.error("missing-key", f"{kind} without a type", tree.span, where, help=help)

    def unspaced(self, key: str, tree: Mapping, where: Where) -> str | None:
        """Report `filters:8` and a value without a key; return the key that was meant, empty if it is not known."""
        span, given = tree.keys[key], plain(tree.values[key])
        apart = glued(key, given)
        if apart is not None:
            help = f"write {apart[0]}: {apart[1]}"
            message, fix = f"'{key}' has no space behind its colon", Fix(span, help[6:], help)
            self.findings.error("unknown-key", message, span, where.down(key), help=help, fix=fix)
            return apart[0]
        if given is None and isinstance(scalar(key), (int, float)):
            help = "write what it is, as in units: 10; a fraction has a point, as in 0.5"
            self.findings.error("unknown-key", f"expected a key with a value, got {key}", span, where, help=help)
            return ""
        return None

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
        misspelt |= self.other_keys(tree, declared, where)
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
            if name in misspelt:
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

    def other_keys(self, tree: Mapping, declared: abc.Mapping[str, Option], where: Where) -> set[str]:
        """Report keys that mean something else here than elsewhere, such as `kernel: 3`; return the names meant."""
        found: set[str] = set()
        for name, option in declared.items():
            for key in tree.keys if option.required and name not in tree.keys else ():
                if key not in declared or meant(key, [name]) is None:
                    continue
                given, schema = plain(tree.values[key]), declared[key].schema
                right = opens_parentheses(given) or fits(option.schema, given)
                if right and not fits(schema, given):
                    message, help = f"{key}: expected {expected(schema)}, got {got(given)}", f"write {name}: ..."
                    span, fix = tree.keys[key], Fix(tree.keys[key], name, f"replace {key} by {name}")
                    self.findings.error("invalid-value", message, span, where.down(key), help=help, fix=fix)
                    found |= {name, key}
        return found

    def known_keys(
        self,
        tree: Mapping,
        names: Collection[str],
        where: Where,
        noun: str,
        place: str = "",
        elsewhere: abc.Mapping[str, str] = MappingProxyType({}),
    ) -> set[str]:
        """Report every key that is not in `names`, except x- annotations; return the names that were probably meant.

        `elsewhere` has help for keys that stand in another place.
        """
        named: set[str] = set()
        rest = self.parentheses(tree, where)
        for key, span in tree.keys.items():
            if key not in names and key not in rest and not key.startswith("x-"):
                apart = self.unspaced(key, tree, where)
                if apart is not None:
                    named.add(apart)
                    continue
                if key in elsewhere:
                    message = f"unknown {noun} '{key}'"
                    self.findings.error("unknown-key", message, span, where.down(key), help=elsewhere[key])
                    continue
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


def _misfit(fitting: Json, tree: Tree) -> tuple[str, Json, Tree]:
    """Return the place, the schema fragment and the tree of the item that is wrong; of a whole value if none is.

    Where a schema allows lists or mappings of several kinds, it is not known which of them is meant.
    """
    kind, each = ("array", "items") if isinstance(tree, Items) else ("object", "additionalProperties")
    of_kind = [part for part in fitting.get("anyOf", [fitting]) if part.get("type") == kind]
    inner = of_kind[0].get(each) if len(of_kind) == 1 else None
    if isinstance(inner, dict) and not isinstance(tree, Scalar):
        named = tree.values.items() if isinstance(tree, Mapping) else enumerate(tree.items)
        for name, item in named:
            if not fits(inner, plain(item)):
                return f".{name}" if isinstance(tree, Mapping) else f"[{name}]", inner, item
    return "", fitting, tree


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


def _with_article(kind: str) -> str:
    return next(iter(registry.table(kind)))
