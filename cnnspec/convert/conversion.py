"""A file of another program as a spec with weights, and the proof that both compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cnnspec.convert.layout import Layout
from cnnspec.convert.network import MOST_VALUES
from cnnspec.convert.onnx_file import Entry, OnnxFile, read
from cnnspec.convert.onnx_network import translated
from cnnspec.convert.refusal import ConversionError
from cnnspec.convert.simplify import Lengths, Simplified, simplified
from cnnspec.convert.structure import Structure, plain, structured
from cnnspec.convert.writing import spec_text
from cnnspec.diagnostics import SpecError
from cnnspec.graph import Graph, build
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, text
from cnnspec.spec import loads
from cnnspec.spec.grammar import name_of

SEVERAL = 2  # images at once where the file leaves their number open
MOST_REASONS = 50


@dataclass(frozen=True, slots=True)
class Converted:
    """A spec's text, its arrays by the names of its parameters and running statistics, and the file it is from."""

    text: str
    input_shape: Shape
    arrays: dict[str, Array]
    file: OnnxFile
    source: Simplified


def convert(path: Path, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert an ONNX file; ConversionError with everything that cannot be said, OSError where there is no file.

    `until` names the node or value that the network ends with, `input_shape` the lengths of one image (c, h, w) where
    the file leaves them open.
    """
    return converted(read(path), path.name, until=until, input_shape=input_shape)


def converted(file: OnnxFile, name: str, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert what was read of a file of some name."""
    entry = _lengths(file.entry, input_shape)
    source = simplified(file, entry, until)
    made, refusals = translated(source)
    if refusals and file.entry.lengths[0] is None:  # a file that leaves the number of images open, but knows one only
        source_of_one = simplified(file, (1, *entry[1:]), until)
        made_of_one, refusals_of_one = translated(source_of_one)
        if len(refusals_of_one) < len(refusals):
            source, made, refusals = source_of_one, made_of_one, refusals_of_one
    if refusals:
        shown = [refusal.text() for refusal in refusals[:MOST_REASONS]]
        if len(refusals) > MOST_REASONS:
            shown.append(f"and {len(refusals) - MOST_REASONS} more")
        raise ConversionError(
            shown, "convert what comes before with --until NODE, or change these in the program that wrote it"
        )
    layout = Layout(made)
    spec_name, header = name_of(name), _header(name, file, source)
    flat, folded = plain(layout), structured(layout)
    graph, parts = _built(spec_name, layout, flat, header), flat
    if len(folded.blocks) + len(folded.layers) < len(flat.layers):
        graph, parts = _built(spec_name, layout, folded, header), folded
    whole = spec_text(spec_name, layout.input, parts.blocks, parts.layers, header, _expect(graph))
    return Converted(whole, layout.input, parts.arrays, file, source)


def _built(name: str, layout: Layout, parts: Structure, header: list[str]) -> Graph:
    try:
        return build(loads(spec_text(name, layout.input, parts.blocks, parts.layers, header, {}), name))
    except SpecError as error:
        reasons = [f"{name}: {diagnostic.message}" for diagnostic in error.diagnostics]
        raise ConversionError(reasons[:MOST_REASONS], "convert what comes before with --until NODE") from error


def _lengths(entry: Entry, given: Shape | None) -> Lengths:
    lengths = entry.lengths
    if not lengths:
        raise ConversionError([f"the input {entry.name} has no axes"], "name a file that takes images or vectors")
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
            [f"the file leaves lengths of its input open: {_open(lengths)}"],
            "say those of one image: --input 3,224,224",
        )
    found = (lengths[0] or SEVERAL, *(length for length in inner if length is not None))
    if prod(found) > MOST_VALUES:
        raise ConversionError([f"its input has {prod(found):,} numbers, at most {MOST_VALUES:,} are read"], "use fewer")
    return found


def _open(lengths: Sequence[int | None]) -> str:
    return "x".join("?" if length is None else str(length) for length in ("n", *lengths[1:]))


def _header(name: str, file: OnnxFile, source: Simplified) -> list[str]:
    producer = f", written by {file.producer}" if file.producer else ""
    lines = [f"Converted from {name} (ONNX, opset {file.opset}{producer})."]
    if len(source.lengths[source.entry]) == 3:
        lines.append("Sequences (n, c, l) are maps of one row.")
    lines += [f"{what}{f', {count} times' if count > 1 else ''}." for what, count in sorted(source.changes.items())]
    return lines


def _expect(graph: Graph) -> dict[str, Any]:
    return {"params": graph.parameter_count, "macs": graph.macs, "output": list(graph.output.shape)}
