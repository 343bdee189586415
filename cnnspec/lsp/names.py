"""The names in a spec: where each id, block, variable and parameter is defined, and where it is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cnnspec.diagnostics import Span
from cnnspec.spec.blocks import shipped
from cnnspec.spec.overrides import ids_of
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree

EXPRESSION = re.compile(r"\$\{[^}]*\}|\$[A-Za-z_][A-Za-z0-9_]*")
_STEP = re.compile(r"[^.\[\]]+")  # of a path such as layers[0].filters
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

LineOf = Callable[[str, int], str]  # from a file and a line number, from 1, to the line


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A name at a place, and the place of its definition, which may be the same."""

    kind: str  # id, block, variable or parameter
    name: str
    span: Span
    definition: Span


@dataclass
class _Scope:
    """The ids in one list of layers and the lists around; each id may have an inner scope, as a block does."""

    outer: _Scope | None = None
    ids: dict[str, tuple[Span, _Scope | None]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[Span, _Scope | None] | None:
        span = self.ids.get(name)
        return span if span is not None or self.outer is None else self.outer.find(name)


def occurrences(tree: Tree, line_of: LineOf) -> list[Occurrence]:
    """Return every name in a spec, in its own file and in those that it extends."""
    if not isinstance(tree, Mapping):
        return []
    finder = _Finder(line_of)
    finder.spec(tree)
    return finder.found


def replaced(lineage: Sequence[Tree]) -> Iterator[tuple[Span, Span]]:
    """Yield pairs of places where a spec and one that it extends define the same name."""
    nearest: dict[tuple[str, ...], Span] = {}
    for tree in lineage:
        for path, span in _definitions(tree):
            if path in nearest:
                yield nearest[path], span
            nearest.setdefault(path, span)


def _definitions(tree: Tree) -> Iterator[tuple[tuple[str, ...], Span]]:
    """Yield each variable, block and parameter that a file defines, with a key that is the same in other files."""
    for name, span in _keys(tree, "vars").items():
        yield ("variable", name), span
    blocks = tree.get("blocks") if isinstance(tree, Mapping) else None
    for name, span in _keys(tree, "blocks").items():
        yield ("block", name), span
        for parameter, place in _keys(blocks.get(name) if isinstance(blocks, Mapping) else None, "params").items():
            yield ("parameter", name, parameter), place


class _Finder:
    def __init__(self, line_of: LineOf) -> None:
        self.line_of = line_of
        self.found: list[Occurrence] = []
        self.blocks: dict[str, tuple[Span, Tree]] = {}
        self.scopes: dict[str, _Scope] = {}  # the scope inside each block
        self.variables: dict[str, Span] = {}

    def note(self, kind: str, name: str, span: Span, definition: Span) -> None:
        self.found.append(Occurrence(kind, name, span, definition))

    def spec(self, tree: Mapping) -> None:
        """Record all names, definitions first."""
        known, own_blocks = shipped(), tree.get("blocks")
        self.blocks = {name: (known.keys[name], block) for name, block in known.values.items()}
        if isinstance(own_blocks, Mapping):
            self.blocks |= {name: (own_blocks.keys[name], block) for name, block in own_blocks.values.items()}
        given = tree.get("vars")
        if isinstance(given, Mapping):
            for name, value in given.values.items():
                self.values(value, {})
                self.variables[name] = given.keys[name]
                self.note("variable", name, given.keys[name], given.keys[name])
        for name, block in own_blocks.values.items() if isinstance(own_blocks, Mapping) else ():
            self.note("block", name, self.blocks[name][0], self.blocks[name][0])
            self.block(name, block)
        scope = _Scope()
        self.layers(tree.get("layers"), scope, {})
        for _, term in _entries(tree.get("train"), "losses"):
            for word in _words(term.get("layer")) if isinstance(term, Mapping) else ():
                self.reference(word, scope)
        for key, value in tree.values.items():
            if key not in ("vars", "blocks", "layers"):
                self.values(value, {})
        self.swept(tree)

    def swept(self, tree: Mapping) -> None:
        """Note the names in the paths of a sweep, such as `vars.NAME`, `layers.ID.with.NAME`, `blocks.NAME.layers.ID`.

        A step is a name where the key or the id that it leads to is one, or where it calls the use of a block.
        """
        named = {one.span: one for one in self.found}
        for path, span in _keys(tree.get("sweep"), "values").items():
            start = self.line_of(span.file, span.line).find(path, span.column - 1)
            here: Tree | None = tree
            for step in _STEP.finditer(path) if start >= 0 else ():
                at, block = start + step.start() + 1, self.generated(step[0]) if isinstance(here, Items) else None
                place, here = _step(here, step[0])
                if place in named:
                    self.note(named[place].kind, step[0], _from(span, at, step[0]), named[place].definition)
                elif block is not None:
                    self.note("block", block, _from(span, at, block), self.blocks[block][0])

    def block(self, name: str, block: Tree) -> None:
        if not isinstance(block, Mapping) or name in self.scopes:
            return
        scope = self.scopes[name] = _Scope()
        parameters: dict[str, Span] = {}
        for parameter, default in _entries(block, "params"):
            self.values(default, parameters)
            span = parameters[parameter] = self.parameters(name)[parameter]
            self.note("parameter", parameter, span, span)
        for port in _words(block.get("inputs")):
            scope.ids[str(port.value)] = (port.span, None)
            self.note("id", str(port.value), port.span, port.span)
        self.layers(block.get("layers"), scope, parameters)
        given = block.get("outputs")
        for word in _words(given) if not isinstance(given, Mapping) else map_scalars(given):
            self.reference(word, scope)

    def parameters(self, block: str) -> dict[str, Span]:
        """Return the parameters of a block with their places."""
        tree = self.blocks[block][1] if block in self.blocks else None
        declared = tree.get("params") if isinstance(tree, Mapping) else None
        return declared.keys if isinstance(declared, Mapping) else {}

    def layers(self, tree: Tree | None, scope: _Scope, parameters: dict[str, Span]) -> None:
        for item in tree.items if isinstance(tree, Items) else ():
            if isinstance(item, Scalar):
                self.used(item)
                self.values(item, parameters)
            elif isinstance(item, Mapping):
                self.item(item, scope, parameters)

    def used(self, word: Tree | None) -> str | None:
        """Record the use of a block, and return its name; None if there is no such block."""
        name = str(word.value) if isinstance(word, Scalar) else ""
        if not isinstance(word, Scalar) or name not in self.blocks:
            return None
        self.note("block", name, word.span, self.blocks[name][0])
        return name

    def item(self, item: Mapping, scope: _Scope, parameters: dict[str, Span]) -> None:
        inner: _Scope | None = None
        block = self.used(item.get("use"))
        given = item.get("from")
        for word in [
            *(map_scalars(given) if isinstance(given, Mapping) else _words(given)),
            *_words(item.get("share")),
        ]:
            self.reference(word, scope)
        if block is not None:
            declared = self.parameters(block)
            for part in ("with", "first", "last"):
                for name, value in _entries(item, part):
                    whole = item.get(part)
                    if name in declared and isinstance(whole, Mapping):
                        self.note("parameter", name, whole.keys[name], declared[name])
                    self.values(value, parameters)
            self.block(block, self.blocks[block][1])
            inner = self.scopes.get(block)
        if "body" in item.values:
            inner = _Scope(scope)
            self.layers(item.get("body"), inner, parameters)
        branches = item.get("branches")
        for branch in branches.items if isinstance(branches, Items) else ():
            self.layers(branch, _Scope(scope), parameters)
        self.layers(item.get("layers"), scope, parameters)
        for key, value in item.values.items():
            if key not in ("body", "branches", "layers", "with", "first", "last"):
                self.values(value, parameters)
        named = item.get("id")
        if isinstance(named, Scalar) and isinstance(named.value, str) and named.value not in scope.ids:
            scope.ids[named.value] = (named.span, inner)
            self.note("id", named.value, named.span, named.span)

    def reference(self, word: Scalar, scope: _Scope) -> None:
        """Record the id that a word refers to; for `block.inner`, record each part."""
        if not isinstance(word.value, str):
            return
        whole = scope.find(word.value)
        if whole is not None:
            self.note("id", word.value, word.span, whole[0])
            return
        at, inner = word.span.column, scope
        for position, part in enumerate(word.value.split(".") if word.plain else ()):
            known = scope.find(part) if position == 0 else inner.ids.get(part)
            block = None if known is not None else self.generated(part)
            if known is not None:
                self.note("id", part, _from(word.span, at, part), known[0])
                following = known[1]
            elif block is not None:
                self.note("block", block, _from(word.span, at, block), self.blocks[block][0])
                following = self.scopes.get(block)
            else:
                return
            if following is None:
                return
            inner, at = following, at + len(part) + 1

    def generated(self, word: str) -> str | None:
        """Return the block whose use is called by a word such as `unit_1`; None if no use is called so."""
        block = word.rpartition("_")[0]
        return block if block in self.blocks and word.removeprefix(f"{block}_").isdecimal() else None

    def values(self, tree: Tree, parameters: dict[str, Span]) -> None:
        """Record the names that expressions in a value read."""
        match tree:
            case Mapping():
                for value in tree.values.values():
                    self.values(value, parameters)
            case Items():
                for value in tree.items:
                    self.values(value, parameters)
            case Scalar(value=str(text), span=span) if "$" in text and span.line == span.end_line:
                written = self.line_of(span.file, span.line)[: span.end_column - 1]
                for expression in EXPRESSION.finditer(written, span.column - 1):
                    for name in _NAME.finditer(written, *expression.span()):
                        definition = parameters.get(name[0]) or self.variables.get(name[0])
                        if definition is not None:
                            place = Span(span.file, span.line, name.start() + 1, span.line, name.end() + 1)
                            kind = "parameter" if name[0] in parameters else "variable"
                            self.note(kind, name[0], place, definition)


def _from(span: Span, column: int, word: str) -> Span:
    """Return the span of a word that begins at a column of the line of another span."""
    return Span(span.file, span.line, column, span.line, column + len(word))


def _step(tree: Tree | None, step: str) -> tuple[Span | None, Tree | None]:
    """Return the key or the id that a step of a path leads to, and its value; None for what there is not."""
    if isinstance(tree, Mapping):
        return tree.keys.get(step), tree.values.get(step)
    if not isinstance(tree, Items):
        return None, None
    ids = ids_of(tree)
    position = int(step) if step.isdecimal() and int(step) < len(ids) else ids.index(step) if step in ids else None
    item = None if position is None else tree.items[position]
    id = item.get("id") if isinstance(item, Mapping) else None
    return (id.span if isinstance(id, Scalar) and id.value == step else None), item


def map_scalars(tree: Mapping) -> Iterator[Scalar]:
    """Return the scalars among the values of a mapping."""
    return (value for value in tree.values.values() if isinstance(value, Scalar))


def _words(tree: Tree | None) -> Iterator[Scalar]:
    """Return a scalar, or the scalars of a list."""
    items: Iterable[Tree | None] = tree.items if isinstance(tree, Items) else (tree,)
    return (item for item in items if isinstance(item, Scalar))


def _entries(tree: Tree | None, key: str) -> Iterable[tuple[str, Tree]]:
    """Return the keys and values of a mapping under a key."""
    given = tree.get(key) if isinstance(tree, Mapping) else None
    return given.values.items() if isinstance(given, Mapping) else ()


def _keys(tree: Tree | None, key: str) -> dict[str, Span]:
    """Return the keys of a mapping under a key, with their places."""
    given = tree.get(key) if isinstance(tree, Mapping) else None
    return given.keys if isinstance(given, Mapping) else {}
