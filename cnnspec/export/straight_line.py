"""Lines of a program that computes a network layer by layer: names of variables, and assignments of limited width."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec.export.exported_network import Output
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.graph.identifiers import identifiers
from cnnspec.layers.part import Part
from cnnspec.shapes import Shape

WIDTH = 120  # columns of a line of the program
INPUTS = "inputs"  # the variable of several inputs


def batch_of(shape: Shape) -> str:
    """Return the shape of a batch as text: (n, 3, 32, 32)."""
    return f"(n, {', '.join(map(str, shape))})"


def pair(values: tuple[int, int]) -> str:
    """Return two lengths as text, or as a single number if they are equal."""
    return str(values[0]) if values[0] == values[1] else repr(tuple(values))


def listed(values: Any) -> str:
    """Return numbers as the text of a list, each with as few digits as float32 needs."""
    return "[" + ", ".join(repr(float(str(np.float32(value)))) for value in np.ravel(values)) + "]"


def filled(template: str, x: str, layer: object) -> str:
    """Fill in the template of a call with one input: {x} is the input, other names are fields of the layer."""
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name and name != "x"]
    return template.format(x=x, **{name: getattr(layer, name) for name in names})


def variables_of(graph: Graph, reserved: Collection[str], outputs: Sequence[Output]) -> dict[str, str]:
    """Return a variable for each value: x if only the next line reads it, else one named after its layer.

    Names in `reserved` are used for other purposes in the program, and avoided. Several inputs are `inputs`, by name.
    """
    names = [INPUT, *(node.name for node in graph.nodes)]
    kept = {output.value for output in outputs} if len(outputs) > 1 else set()
    several = {INPUT: INPUTS} if any(isinstance(node.layer, Part) for node in graph.nodes) else {}
    read_next = [
        name
        for position, name in enumerate(names)
        if name not in kept and {names.index(node.name) for node in graph.consumers(name)} <= {position + 1}
    ]
    lasting = identifiers([name for name in names if name not in read_next], {"x", INPUTS, *reserved})
    return dict.fromkeys(read_next, "x") | lasting | several


def taken(x: str, node: Node) -> str:
    """Return the expression that takes one of several inputs."""
    return f"{x}[{json.dumps(node.name)}]"


def entering(inputs: Mapping[str, Shape], shape: Shape, place: Callable[[Shape], str] = batch_of) -> str:
    """Return what a network takes as text: the shape of a batch, or several by name."""
    return ", ".join(f"{name} {place(of)}" for name, of in inputs.items()) if inputs else place(shape)


def leaving(outputs: Sequence[Output], place: Callable[[Shape], str] = batch_of) -> str:
    """Return what a network gives as text: the shape of a batch, or several by name."""
    return ", ".join(f"{output.name} {place(output.shape)}".lstrip() for output in outputs)


def in_units(array: str) -> Callable[[str, Output], str]:
    """Return the function that writes a value in the units of the data, with a framework's function for arrays."""
    return lambda x, output: f"{x} * {array}({listed(output.deviation)}) + {array}({listed(output.mean)})"


def results(
    start: str,
    outputs: Sequence[Output],
    variables: Mapping[str, str],
    scaled: Callable[[str, Output], str],
    end: str = "",
    indent: str = "    ",
) -> list[str]:
    """Return the lines that give the output, or a mapping from the names of several, between `start` and `end`.

    `scaled` writes a value in the units of the data.
    """
    units = "  # in the units of the data"
    values = {output: variables[output.value] for output in outputs}
    written = {output: scaled(x, output) if output.mean else x for output, x in values.items()}
    if len(outputs) == 1:
        return [f"{indent}{start}{written[outputs[0]]}{end}{units if outputs[0].mean else ''}"]
    pairs = {output: f"{json.dumps(output.name)}: {text}" for output, text in written.items()}
    line = f"{indent}{start}{{{', '.join(pairs.values())}}}{end}"
    if len(line) <= WIDTH:
        return [line]
    inner = [f"{indent}    {pair},{units if output.mean else ''}" for output, pair in pairs.items()]
    return [f"{indent}{start}{{", *inner, f"{indent}}}{end}"]


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
