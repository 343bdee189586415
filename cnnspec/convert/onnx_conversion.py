"""Converts an ONNX file to a spec with weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from cnnspec.convert.converted import Converted, finished, refused, whole_lengths
from cnnspec.convert.onnx_file import OnnxFile, read
from cnnspec.convert.onnx_network import translated
from cnnspec.convert.onnx_run import run_file
from cnnspec.convert.own_file import read_own
from cnnspec.convert.simplify import Simplified, simplified
from cnnspec.shapes import Shape


def convert(path: Path, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert an ONNX file; ConversionError with everything that a spec cannot express, OSError if there is no file."""
    return converted(read(path), path.name, until=until, input_shape=input_shape)


def converted(file: OnnxFile, name: str, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert the content of an ONNX file; a complete file that `export` wrote becomes its original spec."""
    exported = read_own(file, name) if until is None and input_shape is None else None
    if exported is not None:
        return exported
    entry = whole_lengths(file.entry.lengths, input_shape)
    source = simplified(file, entry, until)
    made, refusals = translated(source)
    if refusals and file.entry.lengths[0] is None:  # the number of images is open, but the file may only work for one
        source_of_one = simplified(file, (1, *entry[1:]), until)
        made_of_one, refusals_of_one = translated(source_of_one)
        if len(refusals_of_one) < len(refusals):
            source, made, refusals = source_of_one, made_of_one, refusals_of_one
    if refusals:
        raise refused(refusals)
    run = partial(run_file, file, source.output)
    return finished(made, name, _header(name, file, source), file.entry.dtype, run)


def _header(name: str, file: OnnxFile, source: Simplified) -> list[str]:
    producer = f", written by {file.producer}" if file.producer else ""
    lines = [f"Converted from {name} (ONNX, opset {file.opset}{producer})."]
    if file.entry.dtype.kind == "f" and file.entry.dtype != np.float32:
        lines.append(f"Its input is {file.entry.dtype}: numbers are float32 here.")
    if len(source.lengths[source.entry]) == 3:
        lines.append("Sequences (n, c, l) are maps of one row.")
    lines += [f"{change}{f', {count} times' if count > 1 else ''}." for change, count in sorted(source.changes.items())]
    return lines
