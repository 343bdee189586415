"""`extends: base.yaml`: maps merge, lists and scalars replace, null deletes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.diagnostics.source import repository_of
from cnnspec.files import real_path
from cnnspec.spec.reader import read, read_text
from cnnspec.spec.tree import Mapping, Scalar, Tree


def inherit(tree: Tree, file: str, *, outside: bool = False) -> Tree:
    """Merge a tree onto those that it extends; errors as of `lineage`."""
    return merged(lineage(tree, file, outside=outside))


def lineage(tree: Tree, file: str, *, outside: bool = False) -> list[Tree]:
    """Return the tree and its bases in turn; SpecError for a cycle, shown as a chain, or an unreadable base.

    The base must lie in the spec's repository, or, without a repository, in the spec's folder or below, unless
    `outside` allows any place.
    """
    trees, chain = [tree], [str(Path(file))]
    while isinstance(tree, Mapping) and "extends" in tree.values:
        path, text = _extended(tree.values["extends"], chain, outside)
        tree = read(text, path)
        trees.append(tree)
        chain.append(path)
    return trees


def _extended(given: Tree, chain: list[str], outside: bool) -> tuple[str, str]:
    """Return the path and the text of the file that the last one in a chain extends."""
    if not isinstance(given, Scalar) or not isinstance(given.value, str):
        raise SpecError([Diagnostic("extends", "error", "extends: expected a file's path", given.span, "extends")])
    path = _without_dots(Path(chain[-1]).parent / given.value.replace("\0", ""))
    folder = real_path(Path(chain[0])).parent
    root = repository_of(folder)
    if not outside and not real_path(path).is_relative_to(root or folder):
        where = f"{root.name}/, the spec's repository" if root else f"{folder.name}/, the spec's own folder"
        message = f"extends: {given.value} lies outside of {where}"
        help = f"move the base file into {'it' if root else 'the folder of the spec or below'}, or give --allow-outside"
        raise SpecError([Diagnostic("extends", "error", message, given.span, "extends", help)])
    if str(path) in chain:
        cycle = " > ".join((*chain, str(path)))
        raise SpecError(
            [Diagnostic("extends", "error", f"extends in a circle: {cycle}", given.span, "extends", "break the circle")]
        )
    try:
        return str(path), read_text(path, str(path))
    except OSError as error:
        message = f"extends: cannot read {path}: {error.strerror}"
        help = "paths are relative to the file that extends"
        raise SpecError([Diagnostic("extends", "error", message, given.span, "extends", help)]) from error


def _without_dots(path: Path) -> Path:
    """Return the path without `..` if it leads to the same file, so that findings and editors use one name for it."""
    plain = Path(os.path.normpath(path))
    try:
        return plain if plain.samefile(path) else path
    except OSError:
        return path


def merged(trees: Sequence[Tree]) -> Tree:
    """Merge a lineage, a spec and its bases in turn: values of an earlier tree replace those of later ones."""
    *heirs, tree = trees
    for heir in reversed(heirs):
        tree = merge(tree, heir.without("extends") if isinstance(heir, Mapping) else heir)
    return tree


def merge(base: Tree, heir: Tree) -> Tree:
    """Return `own` merged onto `base`."""
    if not isinstance(base, Mapping) or not isinstance(heir, Mapping):
        return heir
    merged = base
    for key, value in heir.values.items():
        if isinstance(value, Scalar) and value.value is None:
            merged = merged.without(key)
            continue
        before = base.get(key)
        merged = merged.with_value(key, value if before is None else merge(before, value))
        merged.keys[key] = heir.keys[key]
    return Mapping(merged.keys, merged.values, heir.span)
