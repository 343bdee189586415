"""`--set train.epochs=5`: changes from the command line, whose values are read like those of a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from cnnspec.diagnostics import Diagnostic, Span, SpecError
from cnnspec.fields import options
from cnnspec.spec.paths import path_of
from cnnspec.spec.reader import read
from cnnspec.spec.suggest import did_you_mean
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree

FILE = "--set"
_BRACKETS = re.compile(r"\[(\w+)\]")
# Sections in which a path may add a key that the file lacks, and keys that it may add at the top level:
OPEN = ("layers", "train", "data", "expect", "require", "vars", "sweep")
TOP = ("seed", "portable", "name", "train", "data", "expect", "require", "sweep")


class NoPathError(Exception):
    """A path leads nowhere: the message names the step; `meant` is the path that a wrong first step stands for."""

    def __init__(self, message: str, help: str = "", meant: str | None = None) -> None:
        super().__init__(message)
        self.help, self.meant = help, meant


def override(tree: Tree, settings: Sequence[str]) -> Tree:
    """Return the tree with every PATH=VALUE set; SpecError for a path that leads nowhere."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise _failure(setting, f"expected PATH=VALUE, got '{setting}'", "for example --set train.epochs=5")
        value = read(text, FILE) if text.strip() else Scalar(None, Span(FILE, 1, 1, 1, 1))
        try:
            tree = put(tree, path, value)
        except NoPathError as error:
            help = f"write --set {error.meant}={text}" if error.meant else error.help
            raise _failure(setting, str(error), help) from error
    return tree


def put(tree: Tree, path: str, value: Tree) -> Tree:
    """Return the tree with a value set at a path such as `layers[0].filters`; NoPathError if it leads nowhere."""
    return _put(tree, steps_of(path), value, ())


def steps_of(path: str) -> list[str]:
    """Return the keys and numbers of which a path consists."""
    return _BRACKETS.sub(r".\1", path).split(".")


def _put(tree: Tree, path: Sequence[str], value: Tree, done: tuple[str, ...]) -> Tree:
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, Mapping):
        child = tree.get(step)
        if child is None:
            if not (done[0] in OPEN if done else step in TOP):
                meant = None if done else path_of(step)
                help = did_you_mean(step, tree.keys, "known keys")
                raise NoPathError(f"no '{step}' in {_path_text(done)}", help, meant)
            return tree.with_value(step, _nested((*done, step), rest, value))
        return tree.with_value(step, _put(child, rest, value, (*done, step)))
    if isinstance(tree, Items):
        ids = ids_of(tree) if done == ("layers",) else [_id(item) for item in tree.items]
        position = int(step) if step.isdecimal() and int(step) < len(ids) else ids.index(step) if step in ids else None
        if position is None:
            named = [name for name in ids if name]
            help = did_you_mean(step, named, "known ids")
            help += "" if help.endswith("?") else f"; {_path_text(done)}.0 is the first"
            raise NoPathError(f"no '{step}' in {_path_text(done)}", help)
        items = list(tree.items)
        items[position] = _put(items[position], rest, value, (*done, step))
        return replace(tree, items=tuple(items))
    if done and isinstance(tree, Scalar) and isinstance(tree.value, str):
        # `optimizer: sgd` says the same as `optimizer: {type: sgd}`.
        return Mapping({"type": tree.span}, {"type": tree}, tree.span).with_value(step, value)
    raise NoPathError(f"{_path_text(done)} has no parts", "set the whole value")


def _nested(path: tuple[str, ...], rest: Sequence[str], value: Tree) -> Tree:
    """Wrap a value in mappings for the rest of its path; a setting with a default type keeps that type."""
    for position in range(len(rest), 0, -1):
        key, above = rest[position - 1], (*path, *rest[: position - 1])
        keys, values = {key: value.span}, {key: value}
        type_name = _default_type(above) if key != "type" else None
        if type_name is not None:
            keys, values = {"type": value.span, **keys}, {"type": Scalar(type_name, value.span), **values}
        value = Mapping(keys, values, value.span)
    return value


def _default_type(path: tuple[str, ...]) -> str | None:
    """Return the default type of a training setting, such as sgd for train.optimizer; None if it has none."""
    if len(path) != 2 or path[0] != "train":
        return None
    from cnnspec.optim.settings import TrainSettings  # imports all optimizers, which most changes do not need

    given = next((option.default for option in options(TrainSettings) if option.name == path[1]), None)
    return given if isinstance(given, str) else None


def ids_of(tree: Items) -> list[str | None]:
    """Return the given or generated id of every layer; None where a condition above decides on the number in it."""
    present = {_id(item) for item in tree.items}
    counts: Counter[str] = Counter()
    ids: list[str | None] = []
    conditional = False
    for item in tree.items:
        kind = item.get("use") or item.get("type") if isinstance(item, Mapping) else item
        conditional = conditional or kind is None or (isinstance(item, Mapping) and "when" in item.values)
        local = _id(item)
        if local is None and isinstance(kind, Scalar) and not conditional:
            counts[str(kind.value)] += 1
            while f"{kind.value}_{counts[str(kind.value)]}" in present:
                counts[str(kind.value)] += 1
            local = f"{kind.value}_{counts[str(kind.value)]}"
        ids.append(local)
    return ids


def _id(tree: Tree) -> str | None:
    given = tree.get("id") if isinstance(tree, Mapping) else None
    return str(given.value) if isinstance(given, Scalar) else None


def _path_text(done: tuple[str, ...]) -> str:
    return ".".join(done) or "the spec"


def _failure(setting: str, message: str, help: str) -> SpecError:
    span = Span(FILE, 1, 1, 1, len(setting) + 1)
    return SpecError([Diagnostic("unknown-path", "error", f"--set {setting}: {message}", span, help=help)])
