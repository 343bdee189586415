"""Completion: the keys and values that are valid at the cursor, with their defaults filled in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lsprotocol import types

from cnnspec import registry
from cnnspec.diagnostics import SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.fields import Declaration, Json, options
from cnnspec.lsp.context import MARK, Context, contexts
from cnnspec.lsp.cursor import Step
from cnnspec.lsp.documents import Document
from cnnspec.lsp.schema import Schema
from cnnspec.lsp.snippets import bare, nested, placeholder, text_of
from cnnspec.plugins import using
from cnnspec.spec.arriving import AXES
from cnnspec.spec.blocks import shipped
from cnnspec.spec.check import expected
from cnnspec.spec.names import INPUT
from cnnspec.spec.reader import read
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, plain

LISTS = ("layers", "body", "branches")
GIVEN = ("with", "first", "last")  # keys of a use whose keys are the parameters of its block
FILES = {"extends": (".yaml", ".yml"), "plugins": (".py",)}
MOST_FILES = 200
_EXPRESSION = re.compile(r"\$(?:\w*|\{[^}]*?(\w*))$")
_IGNORE = re.compile(r"#\s*cnnspec:\s*ignore(?:-file)?\s*\[(?:[^\]]*,)?\s*([\w-]*)$")

Kind = types.CompletionItemKind


class Completion:
    """Collects the completions at a position, each label once."""

    def __init__(self, document: Document, position: types.Position, *, snippets: bool) -> None:
        self.document, self.position, self.snippets = document, position, snippets
        self.items: dict[str, types.CompletionItem] = {}
        line, column = document.text.place(position)
        self.line = document.text.line(line)[: column - 1]
        self.before = "\n".join([*document.text.lines[: line - 1], self.line])
        self.number, self.column = line, column

    def find(self) -> list[types.CompletionItem]:
        """Return all completions."""
        ignore, expression = _IGNORE.search(self.line), _EXPRESSION.search(self.line)
        if ignore:
            for code, entry in CATALOGUE.items():
                if entry.severity == "warning":
                    self.offer(code, Kind.EnumMember, ignore[1], documentation=entry.title)
        elif expression:
            self.variables(re.search(r"\w*$", self.line)[0])  # type: ignore[index]
        else:
            for context in contexts(self.before):
                self.key(context) if context.is_key else self.value(context)
        return list(self.items.values())

    def offer(
        self,
        label: str,
        kind: types.CompletionItemKind,
        word: str,
        *,
        insert: str | None = None,
        detail: str | None = None,
        documentation: str | None = None,
        first: bool = False,
    ) -> None:
        """Add a text that replaces the unfinished word; `insert` is a snippet."""
        if label in self.items:
            return
        is_snippet = insert is not None and self.snippets
        start = self.document.text.position(self.number, self.column - len(word))
        self.items[label] = types.CompletionItem(
            label,
            kind=kind,
            detail=detail,
            documentation=documentation,
            sort_text=f"{0 if first else 1}{len(self.items):04}",
            filter_text=label,
            text_edit=types.TextEdit(
                types.Range(start, self.position),
                insert if insert is not None and is_snippet else bare(insert) if insert else label,
            ),
            insert_text_format=types.InsertTextFormat.Snippet if is_snippet else None,
        )

    def key(self, context: Context) -> None:
        """Add the keys that a mapping does not have yet."""
        mapping = _tree_at(context.tree, context.steps)
        present = mapping.keys if isinstance(mapping, Mapping) else {}
        for name, part, required in self.keys(context):
            if name not in present:
                self.offer(
                    name,
                    Kind.Property,
                    context.word,
                    insert=f"{name}: {placeholder(part)}",
                    detail=_words(part),
                    documentation=part.get("description"),
                    first=required,
                )

    def keys(self, context: Context) -> Iterator[tuple[str, Json, bool]]:
        """Yield the keys of a mapping, each with its part of the schema, and whether it is required."""
        steps, tree = context.steps, context.tree
        if steps and steps[-1] in GIVEN:
            use = _tree_at(tree, steps[:-1])
            block = _block_of(self.tree(tree), use)
            for name, default in _mapping(block, "params").items():
                required = plain(default) == "required"
                yield name, {} if required else {"default": plain(default)}, required
            return
        document = _unmarked(plain(tree))
        parts = Schema().at(steps, document)
        given = _value_at(document, steps)
        if _is_item(steps) and not {"type", "use", "layers"} & (given or {}).keys():
            yield "type", {"description": "the type of a layer"}, True
            yield "use", {"description": "the block that is put here"}, True
        for part in parts:
            for name, below in part.get("properties", {}).items():
                whole_part: Json = {}
                for one in Schema().parts(below, None):
                    whole_part = {**one, **whole_part}
                yield name, whole_part, name in part.get("required", ())

    def value(self, context: Context) -> None:
        """Add the values that a key or an item of a list can have."""
        steps, word = context.steps, context.word
        names = [step for step in steps if isinstance(step, str)]
        key = names[-1] if names else ""
        if key in ("from", "share"):
            for name in _ids_above(context.tree, steps):
                self.offer(name, Kind.Reference, word, detail="layer above")
        elif key in FILES and len(names) == 1:
            for name in self.files(FILES[key]):
                self.offer(name, Kind.File, word)
        elif key == "use" or _is_item(steps):
            for name in self.blocks(context.tree):
                self.offer(
                    name, Kind.Module, word, insert=None if key == "use" else self.use(context, name), detail="block"
                )
        if key in ("from", "use"):
            return
        for part in Schema().at(steps, plain(context.tree)):
            for value in [*part.get("enum", ()), *([part["const"]] if "const" in part else ())]:
                self.offer(text_of(value), Kind.EnumMember, word, insert=self.layer(context, value))
            if part.get("type") == "boolean":
                self.offer("true", Kind.Value, word)
                self.offer("false", Kind.Value, word)
            if "default" in part:
                self.offer(text_of(part["default"]), Kind.Value, word, detail="default", first=True)
        if _is_item(steps):
            for name in ("residual", "parallel"):
                self.offer(name, Kind.Class, word, insert=nested(name, self.line))

    def layer(self, context: Context, name: Any) -> str | None:
        """Return an item of `layers` with a type and its required fields; None if its bare name is enough."""
        if not _is_item(context.steps) or name not in registry.table("layer"):
            return None
        cls: type[Declaration] = registry.table("layer")[name]
        needed = [option for option in options(cls) if option.required]
        fields = ", ".join(f"{option.name}: {placeholder(option.schema, n)}" for n, option in enumerate(needed, 1))
        return f"{{type: {name}, {fields}}}" if needed else None

    def use(self, context: Context, name: str) -> str | None:
        """Return an item of `layers` that uses a block, with its required parameters; None if there are none."""
        block = _mapping(self.tree(context.tree), "blocks").get(name) or shipped().values.get(name)
        needed = [key for key, default in _mapping(block, "params").items() if plain(default) == "required"]
        given = ", ".join(f"{key}: ${{{number}}}" for number, key in enumerate(needed, 1))
        return f"{{use: {name}, with: {{{given}}}}}" if needed else None

    def tree(self, above: Tree | None) -> Tree | None:
        """Return the whole spec in its last readable version, or else the part above the cursor."""
        known = self.document.parsed
        return known.tree if known is not None and known.tree is not None else above

    def blocks(self, above: Tree) -> Iterable[str]:
        """Return the names of the spec's blocks, above and below the cursor, and of the shipped ones."""
        blocks = {**_mapping(above, "blocks"), **_mapping(self.tree(above), "blocks")}
        return [*blocks, *shipped().values]

    def variables(self, word: str) -> None:
        """Add the names that an expression can read."""
        tree = self.tree(None)
        if tree is None:
            try:
                tree = read(self.before.removesuffix(self.line), "")
            except SpecError:
                return
        for name, value in _mapping(tree, "vars").items():
            self.offer(name, Kind.Variable, word, detail=f"{plain(value)}, of vars")
        for block, given in _mapping(tree, "blocks").items():
            for name, default in _mapping(given, "params").items():
                self.offer(name, Kind.Variable, word, detail=f"parameter of {block}, {plain(default)}")
        for name, axis in AXES.items():
            self.offer(name, Kind.Constant, word, detail=f"the {axis} of what arrives here")
        self.offer("index", Kind.Constant, word, detail="the number of the repetition, from 0")

    def files(self, endings: tuple[str, ...]) -> list[str]:
        """Return the files with these suffixes in the document's folder and one level below."""
        folder = Path(self.document.file).parent
        if not folder.is_dir():
            return []
        files = (path for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")) if path.suffix in endings)
        names = [path.relative_to(folder).as_posix() for path in files if str(path) != self.document.file]
        return names[:MOST_FILES]


def completion(document: Document, position: types.Position, *, snippets: bool) -> list[types.CompletionItem]:
    """Return the completions at a position of a document."""
    known = document.followed
    with using(known.trace.spec.plugins if known is not None and known.trace is not None else ()):
        return Completion(document, position, snippets=snippets).find()


def _is_item(steps: tuple[Step, ...]) -> bool:
    """Tell whether the steps lead to an item of a list of layers."""
    if not steps or not isinstance(steps[-1], int):
        return False
    outer = next((step for step in reversed(steps) if isinstance(step, str)), None)
    in_branch = len(steps) > 1 and isinstance(steps[-2], int)
    return outer in ("layers", "body") or (outer == "branches" and in_branch)


def _tree_at(tree: Tree, steps: Iterable[Step]) -> Tree | None:
    node: Tree | None = tree
    for step in steps:
        if isinstance(node, Mapping) and isinstance(step, str):
            node = node.get(step)
        elif isinstance(node, Items) and isinstance(step, int):
            node = node.items[step]
        else:
            return None
    return node


def _value_at(value: Any, steps: Iterable[Step]) -> dict[str, Any]:
    for step in steps:
        value = value[step]
    return value if isinstance(value, dict) else {}


def _unmarked(value: Any) -> Any:
    """Return a value with the cursor's mark removed from the keys of its mappings."""
    if isinstance(value, dict):
        return {key: _unmarked(inner) for key, inner in value.items() if key != MARK}
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value


def _mapping(tree: Tree | None, key: str) -> dict[str, Tree]:
    """Return the entries of a mapping under a key; empty if there is none."""
    given = tree.get(key) if isinstance(tree, Mapping) else None
    return given.values if isinstance(given, Mapping) else {}


def _block_of(tree: Tree | None, use: Tree | None) -> Tree | None:
    name = use.get("use") if isinstance(use, Mapping) else None
    if not isinstance(name, Scalar):
        return None
    return _mapping(tree, "blocks").get(str(name.value)) or shipped().values.get(str(name.value))


def _ids_above(tree: Tree, steps: tuple[Step, ...]) -> list[str]:
    """Return the ids that a layer can read: those above it in its list and in the lists around, and block inputs."""
    names = [INPUT]
    for depth, step in enumerate(steps):
        around = _tree_at(tree, steps[:depth])
        if isinstance(step, int) and isinstance(around, Items):
            ids = (item.get("id") for item in around.items[:step] if isinstance(item, Mapping))
            names += [str(id.value) for id in ids if isinstance(id, Scalar)]
        inputs = around.get("inputs") if isinstance(around, Mapping) and step == "layers" and depth == 2 else None
        names += [str(plain(item)) for item in inputs.items] if isinstance(inputs, Items) else []
    return names


def _words(part: Json) -> str | None:
    """Return in words which values a part of the schema allows."""
    kinds = ("type", "enum", "anyOf")
    try:
        return expected(part) if any(kind in part for kind in kinds) and "properties" not in part else None
    except KeyError:
        return None
