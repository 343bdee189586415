"""The result of a conversion, in one form for every format: a spec's text and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from cnnspec.convert.layout import Layout
from cnnspec.convert.network import MOST_VALUES, Network
from cnnspec.convert.refusal import ConversionError, Refusal
from cnnspec.convert.simplify import Lengths
from cnnspec.convert.structure import Structure, plain, structured
from cnnspec.convert.writing import spec_text
from cnnspec.diagnostics import SpecError
from cnnspec.graph import Graph, build
from cnnspec.kernels.step import Array
from cnnspec.lints.redundant import unused_ids
from cnnspec.shapes import Shape, text
from cnnspec.spec import loads
from cnnspec.spec.grammar import name_of

SEVERAL = 2  # images at once if the file leaves their number open
MOST_REASONS = 1000
FLOAT32 = np.dtype("float32")
UNREAD = ["The ids are names of the file, by which weights are found.", "cnnspec: ignore-file[unused-id]"]
Run = Callable[[Sequence[Array]], tuple[str, Array] | str]  # from inputs to the program and its output, or why none ran


@dataclass(frozen=True, slots=True)
class FileInput:
    """The shape that a file takes for an input, with the number of images first, and the type of its numbers."""

    lengths: Lengths
    dtype: np.dtype[Any] = FLOAT32


@dataclass(frozen=True, slots=True)
class Converted:
    """A spec's text, its arrays by the names of parameters and running statistics, and a function that runs the file.

    `inputs` are those of the file, in the order of the spec's; `weighted` says whether it has weights.
    """

    text: str
    arrays: dict[str, Array]
    inputs: Sequence[FileInput]
    run: Run
    weighted: bool = True
    half: bool = False  # whether the file computes with float16
    note: str = ""  # a note for the user
    learned: Mapping[str, Any] = field(default_factory=dict)  # records of the target and the images of the training


def finished(
    made: Network, name: str, header: list[str], run: Run, dtypes: Mapping[str, np.dtype[Any]] | None = None
) -> Converted:
    """Write the spec of a translated file of some name; ConversionError if it would not be a valid spec.

    `dtypes` are the types of the file's inputs where these are not float32.
    """
    layout, spec_name = Layout(made), name_of(name)
    flat, folded = plain(layout), structured(layout)
    graph, parts = _built(spec_name, layout, flat, header), flat
    if len(folded.blocks) + len(folded.layers) < len(flat.layers):
        graph, parts = _built(spec_name, layout, folded, header), folded
    if any(unused_ids(loads(spec_text(spec_name, layout.inputs, parts.blocks, parts.layers, [], {})), graph)):
        header = [*header, *UNREAD]
    spec = spec_text(spec_name, layout.inputs, parts.blocks, parts.layers, header, _expect(graph))
    inputs = [
        FileInput(made.source.lengths[entry], (dtypes or {}).get(entry, FLOAT32)) for entry in made.source.entries
    ]
    weighted = bool(parts.arrays) or not graph.parameter_count
    return Converted(spec, parts.arrays, inputs, run, weighted, made.source.half)


def refused(
    refusals: Sequence[Refusal],
    reasons: Sequence[str] = (),
    help: str = "convert what comes before with --until NODE, or change these in the program that wrote it",
) -> ConversionError:
    """Return the error that names everything in a file that a spec cannot express; `reasons` come first."""
    shown = [*reasons, *(refusal.text() for refusal in refusals[:MOST_REASONS])]
    if len(refusals) > MOST_REASONS:
        shown.append(f"and {len(refusals) - MOST_REASONS} more")
    return ConversionError(shown, help)


def _built(name: str, layout: Layout, parts: Structure, header: list[str]) -> Graph:
    try:
        return build(loads(spec_text(name, layout.inputs, parts.blocks, parts.layers, header, {}), name))
    except SpecError as error:
        reasons = [f"{name}: {diagnostic.message}" for diagnostic in error.diagnostics]
        raise ConversionError(reasons[:MOST_REASONS], "convert what comes before with --until NODE") from error


def whole_lengths(lengths: Sequence[int | None], given: Shape | None, subject: str = "its input") -> Lengths:
    """Return an input's shape, with the number of images first; `given` fills the axes that a file leaves open."""
    if not lengths:
        raise ConversionError([f"{subject} has no axes"], "name a file that takes images or vectors")
    inner: Sequence[int | None] = lengths[1:]
    if given is not None:
        known = all(length in (None, wanted) for length, wanted in zip(inner, given, strict=False))
        if len(given) != len(inner) or not known:
            raise ConversionError(
                [f"--input {text(given)} does not fit: the file says {_open(lengths)}"],
                "give as many lengths as it has",
            )
        inner = given
    if any(length is None for length in inner):
        raise ConversionError(
            [f"the file leaves lengths of {subject} open: {_open(lengths)}"],
            "say those of one image: --input 3,224,224",
        )
    result = (lengths[0] or SEVERAL, *(length for length in inner if length is not None))
    if prod(result) > MOST_VALUES:
        raise ConversionError(
            [f"{subject} has {prod(result):,} numbers, at most {MOST_VALUES:,} are read"], "use fewer"
        )
    return result


def _open(lengths: Sequence[int | None]) -> str:
    return "x".join("?" if length is None else str(length) for length in ("n", *lengths[1:]))


def _expect(graph: Graph) -> dict[str, Any]:
    return {"params": graph.parameter_count, "macs": graph.macs, "output": list(graph.output.shape)}
