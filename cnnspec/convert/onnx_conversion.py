"""Converts an ONNX file to a spec with weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from cnnspec.convert.converted import Converted, finished, refused, whole_lengths
from cnnspec.convert.onnx_file import OnnxFile, read
from cnnspec.convert.onnx_network import translated, without_layer
from cnnspec.convert.onnx_run import run_file
from cnnspec.convert.own_file import read_own
from cnnspec.convert.refusal import ConversionError
from cnnspec.convert.simplify import Lengths, Simplified, cut, simplified
from cnnspec.shapes import Shape


def convert(path: Path, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert an ONNX file; ConversionError with everything that a spec cannot express, OSError if there is no file."""
    return converted(read(path), path.name, until=until, input_shape=input_shape)


def converted(file: OnnxFile, name: str, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert the content of an ONNX file; a complete file that `export` wrote becomes its original spec."""
    exported = read_own(file, name) if until is None and input_shape is None else None
    if exported is not None:
        return exported
    file = cut(file, until)
    lengths = _lengths(file, input_shape)
    source = simplified(file, lengths)
    made, refusals = translated(source)
    open_number = all(entry.lengths[0] is None for entry in file.entries)
    if refusals and open_number:  # of images, but the file may only work for one
        source_of_one = simplified(file, {entry: (1, *axes[1:]) for entry, axes in lengths.items()})
        made_of_one, refusals_of_one = translated(source_of_one)
        if len(refusals_of_one) < len(refusals):
            source, made, refusals = source_of_one, made_of_one, refusals_of_one
    if refusals:
        raise refused(refusals)
    run = partial(run_file, file, source.output)
    return finished(made, name, _header(name, file, source), run, {entry.name: entry.dtype for entry in file.entries})


def _lengths(file: OnnxFile, given: Shape | None) -> dict[str, Lengths]:
    """Return the shapes of the inputs; ConversionError if lengths are left open, or the numbers of images differ.

    `given` are the lengths of the only input, or of those that the file leaves open.
    """
    single = len(file.entries) == 1
    count = next((entry.lengths[0] for entry in file.entries if entry.lengths and entry.lengths[0]), None)
    found, reasons, help = dict[str, Lengths](), list[str](), ""
    for entry in file.entries:
        said = given if single or None in entry.lengths[1:] else None
        try:
            lengths = (entry.lengths[0] or count, *entry.lengths[1:]) if entry.lengths else ()
            found[entry.name] = whole_lengths(lengths, said, "its input" if single else f"its input '{entry.name}'")
        except ConversionError as error:
            reasons, help = [*reasons, *error.reasons], error.help
    if reasons:
        without_axes = () in (entry.lengths for entry in file.entries)
        raise refused(without_layer(file.operators) if without_axes else [], reasons, help)
    if len({lengths[0] for lengths in found.values()}) > 1:
        shown = ", ".join(f"{name} {'x'.join(map(str, lengths))}" for name, lengths in found.items())
        reason = f"expected inputs whose first axis is that of the images, got {shown}"
        help = "--until NODE converts a part that does not need them all"
        raise refused(without_layer(file.operators), [reason], help)
    return found


def _header(name: str, file: OnnxFile, source: Simplified) -> list[str]:
    producer = f", written by {file.producer}" if file.producer else ""
    lines = [f"Converted from {name} (ONNX, opset {file.opset}{producer})."]
    for entry in file.entries:
        if entry.dtype.kind == "f" and entry.dtype != np.float32:
            subject = "Its input" if len(file.entries) == 1 else f"Its input {entry.name}"
            lines.append(f"{subject} is {entry.dtype}: numbers are float32 here.")
    if any(len(source.lengths[entry]) == 3 for entry in source.entries):
        lines.append("Sequences (n, c, l) are maps of one row.")
    lines += [f"{change}{f', {count} times' if count > 1 else ''}." for change, count in sorted(source.changes.items())]
    return lines
