"""The network of specs/ with the parameter count that a spec expects, and its differences from the spec's network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from cnnspec.diagnostics import SpecError
from cnnspec.graph.build import build
from cnnspec.graph.node import Graph, Node
from cnnspec.spec import loads
from cnnspec.zoo import zoo

MOST_DIFFERENCES = 2  # the most differences that a note lists

Learned = Sequence[tuple[Node, str]]  # layers with parameters of their own, and the shapes of these in words


def zoo_differences(graph: Graph, wanted: int) -> Iterator[str]:
    """Yield how the layers with parameters differ from those of each network in specs/ with `wanted` parameters.

    Layers are compared in their order, by the shapes of their parameters, not by their names.
    """
    from difflib import SequenceMatcher  # late: rarely needed

    texts = tuple((path, path.read_text(encoding="utf-8")) for path in zoo().values())
    expected = re.compile(rf"^expect:.*\bparams: {wanted}\b", re.MULTILINE)
    for path in (path for path, text in texts if expected.search(text)):
        theirs, ours = _known(path, texts), _learned(graph)
        if theirs is None:
            continue
        before, after_it = ([shapes for _, shapes in learned] for learned in (theirs, ours))
        matcher = SequenceMatcher(None, before, after_it, autojunk=False)
        differences = [
            _difference(theirs[first:after], ours[start:stop])
            for kind, first, after, start, stop in matcher.get_opcodes()
            if kind != "equal"
        ]
        more = [f"and {len(differences) - MOST_DIFFERENCES} more"] if len(differences) > MOST_DIFFERENCES else []
        if differences:
            yield f"{path.stem} of specs/ has that many: there {'; '.join([*differences[:MOST_DIFFERENCES], *more])}"


@lru_cache(maxsize=4)  # an editor asks at each keystroke
def _known(path: Path, texts: tuple[tuple[Path, str], ...]) -> Learned | None:
    """The layers of a spec file, None if it has errors; cached by the texts of all files, as one may extend another."""
    try:
        return _learned(build(loads(dict(texts)[path], str(path))))
    except SpecError:
        return None


def _learned(graph: Graph) -> Learned:
    return [
        (node, ", ".join(f"{key} {'x'.join(map(str, parameter.shape))}" for key, parameter in node.params.items()))
        for node in graph.nodes
        if node.params and not node.share
    ]


def _difference(theirs: Learned, ours: Learned) -> str:
    """Say which layers stand in the place of which; of several layers name the first."""
    if not theirs:
        return f"is no {_layers(ours)}"
    return f"is {_layers(theirs)} in the place of {_layers(ours)}" if ours else f"is {_layers(theirs)} too"


def _layers(learned: Learned) -> str:
    (node, shapes), rest = learned[0], len(learned) - 1
    more = f" and {rest} more layer{'s' * (rest > 1)}" if rest else ""
    return f"{node.layer.type_name} '{node.name}' ({shapes}){more}"
