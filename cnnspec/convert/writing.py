"""Writes the text of a spec as a person would: comments, chains as lists, one line for each layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.graph import INPUT
from cnnspec.graph.render import flow
from cnnspec.shapes import Shape

WIDTH = 110  # columns of a comment line


def layer_line(
    item: Mapping[str, Any], sources: Sequence[str], above: str, called: Mapping[str, str], notes: Sequence[str]
) -> str:
    """Return a layer as a line of a list; `called` maps inputs to names, `above` is the key of the layer above."""
    fields = dict(item)
    if list(sources) != [above]:
        names = [called[source] for source in sources]
        fields["from"] = names[0] if len(names) == 1 else names
    comment = f"  # {'; '.join(notes)}" if notes else ""
    return f"  - {fields['type'] if list(fields) == ['type'] else flow(fields)}{comment}"


def spec_text(
    name: str,
    inputs: Mapping[str, Shape],
    blocks: Sequence[str],
    layers: Sequence[str],
    header: Sequence[str],
    expect: Mapping[str, Any],
) -> str:
    """Return the text of a spec: header comments, inputs, blocks, layers and `expect`."""
    lines = [f"# {line}" for text in header for line in _wrap(text)]
    shapes = {key: list(shape) for key, shape in inputs.items()}
    said = f"input: {flow(shapes[INPUT])}" if INPUT in shapes else f"inputs: {flow(shapes)}"
    lines += ["cnnspec: 1", f"name: {flow(name)}", said, ""]
    lines += ["blocks:", *blocks, ""] if blocks else []
    lines += ["layers:", *layers]
    lines += ["", f"expect: {flow(dict(expect))}"] if expect else []
    return "\n".join(lines) + "\n"


def _wrap(text: str) -> list[str]:
    lines, line = [], ""
    for word in re.sub(r"[^ -~]+", "?", text).split(" "):
        if line and len(line) + len(word) + 1 > WIDTH:
            lines.append(line)
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
