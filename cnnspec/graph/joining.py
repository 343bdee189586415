"""Several losses: the check of the values that they read, and the join of these values in one vector for a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cnnspec.graph.node import INPUT, Graph, Node
from cnnspec.layers.base import Mode
from cnnspec.layers.merge import Join
from cnnspec.optim import Loss, Losses
from cnnspec.optim.losses.combined import Term, output_losses, target_of
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.spec.suggest import did_you_mean
from cnnspec.target import KINDS, Target

JOINED = "losses:join"  # no id of a spec has a colon


def loss_errors(
    graph: Graph, losses: Losses, target: Target, given: Shape, *, spare: bool = False
) -> Iterator[tuple[str, str, ShapeError]]:
    """Yield every loss that does not fit its value or the data's target: its name, the key, and the error.

    With `spare` there may be more outputs than classes.
    """
    for head in graph.heads:
        term: Term = losses.terms[head.name]
        shapes = [graph.node(value).shape for value in head.values]
        try:
            _check_target(head.name, term, target)
        except ShapeError as error:
            yield head.name, "target", error
            continue
        own_target = target_of(head.name, term, target)
        try:
            _check_alike(term.loss, shapes)
            if spare and own_target.kind == "class" and len(own_target.names) < shapes[0][0]:
                own_target = replace(own_target, names=())
            if own_target.kind != "none":
                term.loss.check(shapes[0], own_target, given)
        except ShapeError as error:
            yield head.name, "layer", error
    learned = {term.target or name for name, term in losses.terms.items() if term.loss.reads_labels}
    for name in target.parts:
        if name not in learned:
            message = f"no loss learns the data's target '{name}'"
            yield losses.main, "target", ShapeError(message, help=f"add losses: {{{name}: {{layer: ...}}}}")


def _check_alike(loss: Loss, shapes: list[Shape]) -> None:
    if any(shape != shapes[0] for shape in shapes):
        raise ShapeError(
            f"{loss.type_name} expects layers of one shape, got {' and '.join(map(text, shapes))}",
            help="make them alike",
        )


def _check_target(name: str, term: Term, target: Target) -> None:
    """Raise ShapeError if a loss names a target that the data do not have."""
    if not term.loss.reads_labels:
        if term.target is not None:
            noun = KINDS["input" if term.loss.reads_input else "none"]
            raise ShapeError(f"{term.loss.type_name} is compared with {noun}", help="leave target out")
    elif target.kind != "several":
        if term.target is not None:
            message = f"the data have one target, which has no name, got '{term.target}'"
            raise ShapeError(message, help="leave target out, or name targets in data.source.target")
    elif (term.target or name) not in target.parts:
        missing = term.target or name
        help = f"{did_you_mean(missing, list(target.parts), 'targets')}: write target: NAME"
        raise ShapeError(f"the data have no target '{missing}'", help=help)


def join_outputs(graph: Graph, loss: Loss | None, mode: Mode) -> tuple[Graph, Loss | None]:
    """Join the values that several losses read in one vector, the graph's new output; the losses know their places.

    At inference losses for training only are left out. A graph with one loss is returned unchanged, with its loss.
    """
    if not isinstance(loss, Losses) or not graph.heads:
        return replace(graph, heads=()) if graph.heads else graph, loss
    shapes: dict[str, tuple[Shape, ...]] = {}
    values: list[str] = []
    for head in graph.heads:
        if mode == "train" or not head.training_only:
            read = (*head.values, INPUT) if loss.terms[head.name].loss.reads_input else head.values
            shapes[head.name] = tuple(graph.input_shape if name == INPUT else graph.node(name).shape for name in read)
            values += read
    lengths = {head.name: graph.node(head.values[0]).shape[0] for head in graph.heads}
    layer, inputs = Join(), tuple(shape for of in shapes.values() for shape in of)
    node = Node(JOINED, layer, tuple(values), inputs, layer.infer_shape(*inputs))
    return replace(graph, nodes=(*graph.nodes, node), output_name=JOINED, heads=()), loss.placed(shapes, lengths)


def outputs(graph: Graph, losses: Losses) -> dict[str, Node]:
    """The nodes that make the network's outputs, by the names of their losses."""
    names = output_losses(losses.terms)
    return {head.name: graph.node(head.values[0]) for head in graph.heads if head.name in names}
