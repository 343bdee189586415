"""From a case that fails to a smaller one that still does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.equality.networks import Case, Content

SIMPLEST: Content = {"loss": {"type": "mean_squared_error"}, "optimizer": {"type": "sgd"}}


def shrunk(case: Case, fails: Callable[[Case], bool], attempts: int = 400) -> Case:
    """The smallest case that is found by leaving out and making smaller, one thing after the other."""
    left = attempts
    while True:
        for smaller in _smaller(case):
            if left == 0:
                return case
            left -= 1
            if smaller.is_valid and fails(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    if case.steps > 1:
        yield replace(case, steps=1)
        yield replace(case, steps=case.steps - 1)
    for content in _contents(case.content):
        yield replace(case, content=content)


def _contents(content: Content) -> Iterator[Content]:
    for i in range(len(content["layers"]) - 1, -1, -1):
        yield _without_layer(content, i)
    train = content["train"]
    for key in ("clip", "accumulate", "ema"):
        if key in train:
            yield _changed(content, ("train",), {k: v for k, v in train.items() if k != key})
    for key, value in SIMPLEST.items():
        if train[key] != value:
            yield _changed(content, ("train", key), value)
    for path, _ in _leaves(content):
        last = path[-1]
        if len(path) > 2 and path[0] == "layers" and last not in ("id", "type", "from") and isinstance(last, str):
            yield _without(content, path)
        if path[0] == "train" and len(path) == 3 and last != "type":
            yield _without(content, path)
    for path, value in _leaves(content):
        if isinstance(value, int) and not isinstance(value, bool) and path[0] != "cnnspec":
            for smaller in sorted({1, value // 2, value - 1} - {value}):
                if 0 <= smaller < value:
                    yield _changed(content, path, smaller)


def _without_layer(content: Content, i: int) -> Content:
    """The readers of a layer read its first input."""
    made = copy.deepcopy(content)
    gone = made["layers"].pop(i)
    for layer in made["layers"]:
        layer["from"] = [gone["from"][0] if name == gone["id"] else name for name in layer["from"]]
        if layer.get("share") == gone["id"]:
            del layer["share"]
    return made


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if path and path[-1] not in ("from",):
        yield path, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and (not path or path[-1] != "from"):
        for i, inner in enumerate(value):
            yield from _leaves(inner, (*path, i))


def _changed(content: Content, path: tuple[Any, ...], value: Any) -> Content:
    made = copy.deepcopy(content)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = copy.deepcopy(value)
    return made


def _without(content: Content, path: tuple[Any, ...]) -> Content:
    made = copy.deepcopy(content)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return made
