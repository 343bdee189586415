"""`extends: base.yaml`: maps merge, lists and scalars replace, null deletes."""

from __future__ import annotations

from pathlib import Path

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.diagnostics.source import repository_of
from cnnspec.spec.reader import read, read_text
from cnnspec.spec.tree import Mapping, Scalar, Tree


def inherit(tree: Tree, file: str, *, outside: bool = False, chain: tuple[str, ...] = ()) -> Tree:
    """Merge a tree onto the tree that it extends; SpecError for a cycle, shown as a chain, or an unreadable base.

    The base must lie in the spec's repository, or, without a repository, in the spec's folder or below, unless
    `outside` allows any place.
    """
    if not isinstance(tree, Mapping) or "extends" not in tree.values:
        return tree
    given = tree.values["extends"]
    own = tree.without("extends")
    if not isinstance(given, Scalar) or not isinstance(given.value, str):
        raise SpecError([Diagnostic("extends", "error", "extends: expected a file's path", given.span, "extends")])
    path = Path(file).parent / given.value.replace("\0", "")
    here = (*chain, str(Path(file)))
    folder = Path(here[0]).resolve().parent
    root = repository_of(folder)
    if not outside and not path.resolve().is_relative_to(root or folder):
        where = f"{root.name}/, the spec's repository" if root else f"{folder.name}/, the spec's own folder"
        message = f"extends: {given.value} lies outside of {where}"
        help = f"move the base file into {'it' if root else 'the folder of the spec or below'}, or give --allow-outside"
        raise SpecError([Diagnostic("extends", "error", message, given.span, "extends", help)])
    if str(path) in here:
        cycle = " > ".join((*here, str(path)))
        raise SpecError(
            [Diagnostic("extends", "error", f"extends in a circle: {cycle}", given.span, "extends", "break the circle")]
        )
    try:
        text = read_text(path, str(path))
    except OSError as error:
        message = f"extends: cannot read {path}: {error.strerror}"
        help = "paths are relative to the file that extends"
        raise SpecError([Diagnostic("extends", "error", message, given.span, "extends", help)]) from error
    base = inherit(read(text, str(path)), str(path), outside=outside, chain=here)
    return merge(base, own)


def merge(base: Tree, own: Tree) -> Tree:
    """Return `own` merged onto `base`."""
    if not isinstance(base, Mapping) or not isinstance(own, Mapping):
        return own
    merged = base
    for key, value in own.values.items():
        if isinstance(value, Scalar) and value.value is None:
            merged = merged.without(key)
            continue
        before = base.get(key)
        merged = merged.with_value(key, value if before is None else merge(before, value))
        merged.keys[key] = own.keys[key]
    return Mapping(merged.keys, merged.values, own.span)
