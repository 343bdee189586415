"""Lines of a program that computes a network layer by layer: names of variables, and assignments of limited width."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from cnnspec.graph import INPUT, Graph
from cnnspec.graph.identifiers import identifiers
from cnnspec.shapes import Shape

WIDTH = 120  # columns of a line of the program


def batch_of(shape: Shape) -> str:
    """Return the shape of a batch as text: (n, 3, 32, 32)."""
    return f"(n, {', '.join(map(str, shape))})"


def pair(values: tuple[int, int]) -> str:
    """Return two lengths as text, or as a single number if they are equal."""
    return str(values[0]) if values[0] == values[1] else repr(tuple(values))


def listed(values: Any) -> str:
    """Return numbers as the text of a list, each with as few digits as float32 needs."""
    return "[" + ", ".join(repr(float(np.float32(value))) for value in np.ravel(values)) + "]"


def filled(template: str, x: str, layer: object) -> str:
    """Fill in the template of a call with one input: {x} is the input, other names are fields of the layer."""
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name and name != "x"]
    return template.format(x=x, **{name: getattr(layer, name) for name in names})


def variables_of(graph: Graph, reserved: Collection[str]) -> dict[str, str]:
    """Return a variable for each value: x if only the next line reads it, else one named after its layer.

    Names in `reserved` are used for other purposes in the program, and avoided.
    """
    names = [INPUT, *(node.name for node in graph.nodes)]
    read_next = [
        name
        for position, name in enumerate(names)
        if {names.index(node.name) for node in graph.consumers(name)} <= {position + 1}
    ]
    lasting = identifiers([name for name in names if name not in read_next], {"x", *reserved})
    return dict.fromkeys(read_next, "x") | lasting


def assignment(variable: str, expression: str, shape: Shape, indent: str = "    ") -> Iterator[str]:
    """Yield the lines that assign an expression to a variable, with the shape of its value as a comment."""
    line, comment = f"{indent}{variable} = {expression}", f"  # {batch_of(shape)}"
    if len(line) + len(comment) <= WIDTH:
        yield line + comment
        return
    function, _, arguments = expression.partition("(")
    if not expression.endswith(")") or "(" in function or ")(" in arguments:
        yield f"{indent}{comment.strip()}"
        yield line
        return
    yield f"{indent}{variable} = {function}({comment}"
    yield from (f"{indent}    {argument}," for argument in _split_arguments(arguments.removesuffix(")")))
    yield f"{indent})"


def _split_arguments(arguments: str) -> Iterator[str]:
    """Yield the arguments in a text, which is divided at commas outside parentheses."""
    depth, start = 0, 0
    for position, character in enumerate(arguments):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            yield arguments[start:position].strip()
            start = position + 1
    yield arguments[start:].strip()
