"""Checks of inputs: one has the shape of the data; of several all are needed, and no setting is for a single one."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph.node import Graph
from cnnspec.shapes import ShapeError, text
from cnnspec.spec.model import Spec
from cnnspec.spec.place import Place

OF_ONE = ("shape", "layout", "scale")  # fields of sources for a single image
CHANGES = ("preprocess", "augment", "tta")  # keys of data that change images


def one_input(spec: Spec) -> list[Diagnostic]:
    """Find an input of another shape than that of the data, as far as the source tells it without reading."""
    if spec.data is None:
        return []
    try:
        shape = spec.data.image_shape()
    except ShapeError as error:
        place = _section(spec, "data")
        return [
            Diagnostic(
                "input-mismatch", "error", f"preprocess: {error}", place.of("preprocess"), "data.preprocess", error.help
            )
        ]
    if shape is None or shape == spec.input or spec.inputs:
        return []
    return [
        Diagnostic(
            code="input-mismatch",
            severity="error",
            message=f"input: expected {text(shape)}, which is what the data source gives, got {text(spec.input)}",
            span=spec.place.of("input"),
            path="input",
            help=f"write input: [{', '.join(map(str, shape))}], or resize the images under data.preprocess",
        )
    ]


def several_inputs(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Find inputs that the output does not depend on, and losses, sources and changes for a single input."""
    if not spec.inputs:
        return
    place, needed = _section(spec, "inputs"), graph.needed
    for name in spec.inputs:
        if name not in needed:
            help = f"read it with from: {name}, or remove it"
            yield _wrong(place, "inputs", name, f"inputs: the output does not depend on '{name}'", help)
    yield from _losses(spec)
    yield from _data(spec)


def _losses(spec: Spec) -> Iterator[Diagnostic]:
    if spec.train is None:
        return
    terms = spec.train.losses
    losses = {"loss": spec.train.loss} if terms is None else {name: term.loss for name, term in terms.items()}
    for name, loss in losses.items():
        if loss.reads_input:
            section, key = ("train", "loss") if terms is None else (f"train.losses.{name}", "loss")
            message = f"{loss.type_name}: it compares the output with the input, where inputs have names"
            yield _wrong(_section(spec, section), section, key, message, "give it a target among the labels")


def _data(spec: Spec) -> Iterator[Diagnostic]:
    if spec.data is None:
        return
    data, own, source = _section(spec, "data"), _section(spec, "data.source"), spec.data.source
    names = ", ".join(spec.inputs)
    if not source.several_inputs:
        message = f"source: {source.type_name} gives one image, the network has the inputs {names}"
        yield _wrong(data, "data", "source", message, "use npz, with an array for each input")
    for key in CHANGES:
        if getattr(spec.data, key):
            message = f"{key}: it changes images, the network has the inputs {names}"
            yield _wrong(data, "data", key, message, "leave it out: bytes of pictures enter as 0 to 1 without it")
    for key in OF_ONE if source.several_inputs else ():
        if getattr(source, key, None) != getattr(type(source), key, None):
            message = f"source: {key} is that of one image, the network has the inputs {names}"
            yield _wrong(own, "data.source", key, message, "leave it out: inputs says the shapes")
    kind = source.target_kind
    if kind == "mask" or (source.type_name == "synthetic" and kind != "class"):
        message = f"source: beside several inputs {source.type_name} has no target {kind}"
        yield _wrong(own, "data.source", "target", message, "use target: class")


def _section(spec: Spec, name: str) -> Place:
    return spec.sections.get(name, spec.place)


def _wrong(place: Place, section: str, key: str, message: str, help: str) -> Diagnostic:
    return Diagnostic("input-mismatch", "error", message, place.of(key), f"{section}.{key}", help)
