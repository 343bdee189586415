"""Finds the key or value at a place of a text, and the path to it from the top of the tree."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspec.diagnostics import Span
from cnnspec.lsp.text import within
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree

Step = str | int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a tree: the steps to it, the trees on the path, the outermost first, and the key or value there."""

    steps: tuple[Step, ...]
    trees: tuple[Tree, ...]  # one more than steps, unless the place is a key, whose value is left out
    span: Span
    on_key: bool

    @property
    def value(self) -> Tree:
        """The innermost tree; for a key, the mapping that contains it."""
        return self.trees[-1]


def find(tree: Tree, file: str, line: int, column: int) -> Cursor | None:
    """Return the innermost key or value at a place of a file; None if there is none."""
    return _find(tree, file, line, column, (), (tree,))


def _find(
    tree: Tree, file: str, line: int, column: int, steps: tuple[Step, ...], trees: tuple[Tree, ...]
) -> Cursor | None:
    match tree:
        case Scalar():
            return Cursor(steps, trees, tree.span, False) if _is_at(tree.span, file, line, column) else None
        case Items():
            for number, item in enumerate(tree.items):
                found = _find(item, file, line, column, (*steps, number), (*trees, item))
                if found is not None:
                    return found
        case Mapping():
            for key, span in tree.keys.items():
                if _is_at(span, file, line, column):
                    return Cursor((*steps, key), trees, span, True)
                value = tree.values[key]
                found = _find(value, file, line, column, (*steps, key), (*trees, value))
                if found is not None:
                    return found
    return None


def _is_at(span: Span, file: str, line: int, column: int) -> bool:
    return span.file == file and within(span, line, column)
