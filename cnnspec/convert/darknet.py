"""Converts a network of Darknet to a spec: `.cfg`, with weights in `.weights` beside it or in another place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnspec.convert.converted import Converted, finished, refused, whole_lengths
from cnnspec.convert.darknet_file import Section, Weights, read_sections
from cnnspec.convert.darknet_layers import NEAREST, TRANSLATORS, Translation
from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.refusal import ConversionError, Refusal, Unknown, Unsaid, unknown_end
from cnnspec.convert.simplify import Lengths, Simplified
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

UNRUN = "no program here runs Darknet's files"
HEADS = ("detection", "region", "yolo")


def convert(
    path: Path, weights: Path | None = None, *, until: str | None = None, input_shape: Shape | None = None
) -> Converted:
    """Convert a .cfg; ConversionError with everything that a spec cannot express, OSError if there is no file.

    The weights are those of the .weights that is named, or has the same name in the same folder; without one, the spec
    has none. `until` is a layer as messages name it, such as convolutional_3, or its number as Darknet counts.
    """
    first, *sections = read_sections(path)
    lengths = _lengths(first, input_shape)
    sections = _sections_up_to(sections, until)
    _, refusals = _translated(sections, lengths, None)
    if refusals:
        raise refused(refusals)
    beside = path.with_suffix(".weights")
    weights = weights or (beside if beside.is_file() else None)
    stored = None if weights is None else Weights(weights)
    made, refusals = _translated(sections, lengths, stored)
    if refusals:  # numbers that are not finite
        raise refused(refusals)
    header = [f"Converted from {path.name} (Darknet)" + (", without weights." if stored is None else ".")]
    if stored is not None:
        if until is None:
            stored.expect_end()
        header.append(f"Its weights are those of {stored.path.name}.")
    if any(section.options.get("batch_normalize") == "1" for section in sections):
        header.append("Darknet adds 1e-6 to the deviation of a batch normalisation, a spec to the variance.")
    return finished(made, path.name, header, _unrun)


def _unrun(arrays: Sequence[Array]) -> str:
    return UNRUN


def _lengths(first: Section, given: Shape | None) -> Lengths:
    try:
        image = [first.integer(name, 0) or None for name in ("channels", "height", "width")]
        vector = first.integer("inputs", 0)
    except Unsaid as unsaid:
        raise ConversionError([f"[{first.type}]: {unsaid}"], "write a number") from unsaid
    if image == [None] * 3 and vector:
        image = [vector]
    if any(length is not None and length < 0 for length in image):
        raise ConversionError([f"[{first.type}]: the input is of negative length"], "write numbers above 0")
    return whole_lengths([None, *image], given)


def _sections_up_to(sections: list[Section], until: str | None) -> list[Section]:
    if until is None:
        while sections and sections[-1].type == "cost":  # only training uses it
            sections = sections[:-1]
        if sections:
            return sections
        raise ConversionError(["the file has no layers"], "name a .cfg with a network in it")
    for number, section in enumerate(sections):
        if until in (str(number), _name(number, section)):
            return sections[: number + 1]
    raise unknown_end(until, [_name(number, section) for number, section in enumerate(sections)])


def _name(number: int, section: Section) -> str:
    return f"{section.type}_{number}"


def _translated(sections: list[Section], lengths: Lengths, weights: Weights | None) -> tuple[Network, list[Refusal]]:
    """Return the translated layers, and the sections that cannot be expressed in a spec.

    Heads that detect objects have no weights: those that the last layer does not depend on are left out.
    """
    names = [_name(number, section) for number, section in enumerate(sections)]
    origins = {f"weights of {name}": np.empty(0) for name in names}
    source = Simplified(("input",), [], origins, {"input": lengths}, names[-1], lengths[0], 0)
    work = Translation(Network(source), names, weights)
    refusals, heads = list[Refusal](), 0
    for name, section in zip(names, sections, strict=True):
        operator = Operator(section.type, "", (f"weights of {name}",), ("",))
        try:
            section.read.clear()
            if section.type not in TRANSLATORS:
                nearest = NEAREST.get(section.type, "")
                raise Unsaid(f"no layer computes [{section.type}]", nearest)
            value = TRANSLATORS[section.type](work, operator, section)
            section.ignore("stopbackward", "onlyforward", "learning_rate_scale")
            if section.unread():
                raise Unsaid(f"nothing here does {', '.join(section.unread())}")
            work.made.values[name] = value
        except Unknown:
            pass  # it reads what was refused
        except Unsaid as unsaid:
            heads += section.type in HEADS
            refusals.append(Refusal(f"line {section.line}: {name}", section.type, str(unsaid), unsaid.nearest))
        work.number += 1
    if heads == len(refusals) and names[-1] in work.made.values:
        refusals = []
    return work.made, refusals
