"""Variables in values: which names an expression may use, and their replacement, which keeps every value's place."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field
from typing import Any

from cnnspec.diagnostics import Related, Span
from cnnspec.spec.arriving import AXES, Arriving, length
from cnnspec.spec.expression import ExpressionError, substitute
from cnnspec.spec.findings import MOST_VALUES, Findings, Wrong
from cnnspec.spec.grammar import LONGEST, VARIABLE_WORDS, is_variable
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where

MOST_VARIABLES = 1000  # the time to check them grows with the square of their number
RESERVED = ("index", *AXES, "true", "false")  # no variable or parameter may have these names


@dataclass
class Scope:
    """The values of names, a record of the names used, and the shapes that arrive at the layer."""

    values: abc.Mapping[str, Any]
    used: set[str] = field(default_factory=set)
    places: abc.Mapping[str, Span] = field(default_factory=dict)  # where values are given
    arriving: Arriving | None = None

    def apart(self, names: abc.Mapping[str, Any], used: set[str], arriving: Arriving | None) -> Scope:
        """Return a scope with further names that records uses in another set, such as the scope inside a block."""
        return Scope({**self.values, **names}, used, self.places, arriving)

    def inside(self, names: abc.Mapping[str, Any], places: abc.Mapping[str, Span] | None = None) -> Scope:
        """Return a scope with further names."""
        return Scope({**self.values, **names}, self.used, {**self.places, **(places or {})}, self.arriving)

    def at(self, arriving: Arriving | None) -> Scope:
        """Return a scope with the same names for another layer."""
        return Scope(self.values, self.used, self.places, arriving)


class _Watched(abc.Mapping[str, Any]):
    """The names of a scope and of the arriving shapes as a mapping that records which names are read."""

    def __init__(self, scope: Scope, findings: Findings) -> None:
        self.scope, self.findings = scope, findings
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name in AXES and self.scope.arriving is not None:
            return length(name, self.scope.arriving, self.findings)
        self.scope.used.add(name)
        self.read.add(name)
        return self.scope.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.scope.values or (name in AXES and self.scope.arriving is not None)

    def __iter__(self) -> abc.Iterator[str]:
        yield from self.scope.values
        yield from AXES if self.scope.arriving is not None else ()

    def __len__(self) -> int:
        return sum(1 for _ in self)


def filled(tree: Tree, scope: Scope, findings: Findings, where: Where, skip: tuple[str, ...] = ()) -> Tree:
    """Return the tree with every `$name` and `${...}` replaced by its value, except under the keys `skip`."""
    if not tree.varies:
        return tree
    match tree:
        case Mapping():
            values = {
                key: filled(value, scope, findings, where.down(key)) if value.varies and key not in skip else value
                for key, value in tree.values.items()
            }
            return Mapping(tree.keys, values, tree.span)
        case Items():
            items = (filled(item, scope, findings, where.down(i)) for i, item in enumerate(tree.items))
            return Items(tuple(items), tree.span)
        case Scalar(value=str(text)):
            names = _Watched(scope, findings)
            findings.spend(1, tree.span, where)
            try:
                value = substitute(text, names)
                findings.spend(size(value), tree.span, where)
                given = tuple(
                    Related(f"'{name}' is given here", scope.places[name])
                    for name in sorted(names.read)
                    if name in scope.places
                )
                return Scalar(value, tree.span, True, given)
            except ExpressionError as error:
                if error.unknown is None:
                    # In a shipped block the error is in the value that the spec has given.
                    given_at = (scope.places[name] for name in sorted(names.read) if name in scope.places)
                    span = next((at for at in given_at if at.file != tree.span.file), tree.span)
                    raise findings.error("bad-expression", str(error), span, where, help=error.help) from error
                _, help = findings.meant(error.unknown, list(error.known), "known names")
                raise findings.error("unknown-name", str(error), tree.span, where, help=help) from error
    return tree


def size(value: Any) -> int:
    """Return the number of lists, mappings and scalars in a value; counting stops one above the allowed number."""
    count, rest = 0, [value]
    while rest and count <= MOST_VALUES:
        item = rest.pop()
        count += 1
        if isinstance(item, (list, dict)):
            rest += item.values() if isinstance(item, dict) else item
    return count


def unreserved(name: str, span: Span, findings: Findings, where: Where, noun: str) -> None:
    """Raise Wrong for a name that has another meaning in expressions, or that no expression can read."""
    if name in RESERVED:
        message = f"'{name}' can be no {noun}: it means something else in every expression"
        raise findings.error("invalid-value", message, span, where.down(name), help="choose another name")
    if not is_variable(name):
        message = f"expected at most {LONGEST} characters, {VARIABLE_WORDS}, got '{name}'"
        raise findings.error(
            "invalid-value", message, span, where.down(name), help=f"choose another name for the {noun}"
        )


def variables(tree: Tree | None, findings: Findings) -> Scope:
    """Return the scope of the `vars` section; a variable may use those above it."""
    scope = Scope({})
    where = Where("vars")
    if tree is None:
        return scope
    if not isinstance(tree, Mapping):
        findings.error("invalid-value", "vars: expected a mapping of names to values", tree.span, where)
        return scope
    if len(tree.values) > MOST_VARIABLES:
        findings.error("too-large", f"vars: expected at most {MOST_VARIABLES:,} variables", tree.span, where)
        return scope
    for name, value in tree.values.items():
        try:
            unreserved(name, tree.keys[name], findings, where, "variable")
            given = filled(value, scope, findings, where.down(name))
        except Wrong:
            continue
        if isinstance(given, Scalar):
            scope = scope.inside({name: given.value}, {name: value.span})
        else:
            findings.error("invalid-value", f"vars.{name}: expected a number or a text", value.span, where.down(name))
    return scope
