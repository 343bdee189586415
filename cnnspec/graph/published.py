"""The network of specs/ that a spec is meant to be, by the count that it expects, and where the two differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cnnspec.graph.build import build
from cnnspec.graph.node import Graph, Node
from cnnspec.spec import load
from cnnspec.zoo import zoo

MOST_DIFFERENCES = 2  # that a note lists


def zoo_differences(graph: Graph, wanted: int) -> Iterator[str]:
    """How the layers with parameters differ from those of a network in specs/ that has as many as are wanted.

    Layers are compared in their order, by the shapes of their parameters; their names may be others.
    """
    from difflib import SequenceMatcher  # not needed where counts are as expected

    for name, path in zoo().items():
        if not re.search(rf"^expect:.*\bparams: {wanted}\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            continue
        theirs, ours = (_learned(found) for found in (build(load(path)), graph))
        before, after_it = ([shapes for _, shapes in learned] for learned in (theirs, ours))
        matcher = SequenceMatcher(None, before, after_it, autojunk=False)
        found = [
            _difference(theirs[first:after], ours[start:stop])
            for kind, first, after, start, stop in matcher.get_opcodes()
            if kind != "equal"
        ]
        more = [f"and {len(found) - MOST_DIFFERENCES} more"] if len(found) > MOST_DIFFERENCES else []
        if found:
            yield f"{name} of specs/ has that many: there {'; '.join([*found[:MOST_DIFFERENCES], *more])}"


def _learned(graph: Graph) -> list[tuple[Node, str]]:
    """The layers with parameters of their own, and the shapes of these in words."""
    return [
        (node, ", ".join(f"{key} {'x'.join(map(str, found.shape))}" for key, found in node.params.items()))
        for node in graph.nodes
        if node.params and not node.share
    ]


def _difference(theirs: list[tuple[Node, str]], ours: list[tuple[Node, str]]) -> str:
    """What stands in the place of what, of several layers the first."""
    if not theirs:
        return f"is no {_layers(ours)}"
    return f"is {_layers(theirs)} in the place of {_layers(ours)}" if ours else f"is {_layers(theirs)} too"


def _layers(found: list[tuple[Node, str]]) -> str:
    (node, shapes), rest = found[0], len(found) - 1
    more = f" and {rest} more layer{'s' * (rest > 1)}" if rest else ""
    return f"{node.layer.type_name} '{node.name}' ({shapes}){more}"
