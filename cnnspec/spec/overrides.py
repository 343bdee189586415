"""`--set train.epochs=5`: changes from the command line, typed by the same reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnspec.diagnostics import Diagnostic, Span, SpecError
from cnnspec.spec.reader import read
from cnnspec.spec.suggest import did_you_mean
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree

FILE = "--set"
OPEN = ("train", "data", "expect", "require", "vars")  # sections that take keys which the file does not have
TOP = ("seed", "name", "train", "data", "expect", "require")  # as does the spec itself


def override(tree: Tree, settings: Sequence[str]) -> Tree:
    """The tree with every PATH=VALUE in place; SpecError for a path that leads nowhere."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise _failure(setting, f"expected PATH=VALUE, got '{setting}'", "for example --set train.epochs=5")
        value = read(text, FILE) if text.strip() else Scalar(None, Span(FILE, 1, 1, 1, 1))
        tree = _put(tree, path.split("."), value, setting, ())
    return tree


def _put(tree: Tree, path: Sequence[str], value: Tree, setting: str, done: tuple[str, ...]) -> Tree:
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, Mapping):
        child = tree.get(step)
        if child is None:
            if not (done[0] in OPEN if done else step in TOP):
                raise _failure(setting, f"no '{step}' in {_named(done)}", did_you_mean(step, tree.keys, "known keys"))
            for inner in reversed(rest):
                value = Mapping({inner: value.span}, {inner: value}, value.span)
            return tree.with_value(step, value)
        return tree.with_value(step, _put(child, rest, value, setting, (*done, step)))
    if isinstance(tree, Items):
        ids = [_id(item) for item in tree.items]
        position = int(step) if step.isdecimal() and int(step) < len(ids) else ids.index(step) if step in ids else None
        if position is None:
            named = [name for name in ids if name]
            raise _failure(setting, f"no '{step}' in {_named(done)}", did_you_mean(step, named, "known ids"))
        items = list(tree.items)
        items[position] = _put(items[position], rest, value, setting, (*done, step))
        return replace(tree, items=tuple(items))
    if done and isinstance(tree, Scalar) and isinstance(tree.value, str):
        # `optimizer: sgd` says the same as `optimizer: {type: sgd}`.
        return Mapping({"type": tree.span}, {"type": tree}, tree.span).with_value(step, value)
    raise _failure(setting, f"{_named(done)} has no parts", "set the whole value")


def _id(tree: Tree) -> str | None:
    given = tree.get("id") if isinstance(tree, Mapping) else None
    return str(given.value) if isinstance(given, Scalar) else None


def _named(done: tuple[str, ...]) -> str:
    return ".".join(done) or "the spec"


def _failure(setting: str, message: str, help: str) -> SpecError:
    span = Span(FILE, 1, 1, 1, len(setting) + 1)
    return SpecError([Diagnostic("unknown-path", "error", f"--set {setting}: {message}", span, help=help)])
