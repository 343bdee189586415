"""A network's picture as text, Mermaid and DOT; `scene` draws the SVG."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.report.outline import Box, Outline


def as_text(outline: Outline) -> str:
    """Return one line for each layer, indented by frame; its inputs are named if it does not read the line above."""
    lines = list(_text(outline, "", 0, [""]))
    return "\n".join(lines)


def _text(outline: Outline, frame: str, depth: int, above: list[str]) -> Iterator[str]:
    for item in outline.inside[frame]:
        if isinstance(item, str):
            yield f"{'  ' * depth}{item}"
            yield from _text(outline, item, depth + 1, above)
            continue
        sources = [arrow.source for arrow in outline.arrows if arrow.target == item.name]
        reads = "" if sources in ([], above) else f"  < {', '.join(sources)}"
        shape = next((arrow.shape for arrow in outline.arrows if arrow.source == item.name), "")
        figures = ", ".join((*item.details, *([f"> {shape}"] if shape else [])))
        name = item.name if item.title != item.name else ""
        yield f"{'  ' * depth}{item.title:<{max(1, 34 - 2 * depth)}} {name:<28} {figures}{reads}".rstrip()
        above[:] = [item.name]


def as_mermaid(outline: Outline) -> str:
    """Return a Mermaid flowchart, with a subgraph for each frame."""
    names = _numbers(outline)
    lines = ["flowchart TD", *_mermaid(outline, "", 1, names)]
    lines += [f'  {names[a.source]} -->|"{a.shape}"| {names[a.target]}' for a in outline.arrows]
    return "\n".join(lines)


def _mermaid(outline: Outline, frame: str, depth: int, names: dict[str, str]) -> Iterator[str]:
    indent = "  " * depth
    for item in outline.inside[frame]:
        if isinstance(item, str):
            yield f'{indent}subgraph {names["frame " + item]}["{_entities(item)}"]'
            yield from _mermaid(outline, item, depth + 1, names)
            yield f"{indent}end"
        else:
            label = "<br/>".join(_entities(line) for line in _label(item))
            yield f'{indent}{names[item.name]}["{label}"]'


def as_dot(outline: Outline) -> str:
    """Return a graph for Graphviz, with a cluster for each frame."""
    names = _numbers(outline)
    lines = [f"digraph {_quoted(outline.name)} {{", "  graph [fontname=Helvetica, labeljust=l];"]
    lines += ["  node [shape=box, fontname=Helvetica];", "  edge [fontname=Helvetica, fontsize=10];"]
    lines += _dot(outline, "", 1, names)
    lines += [f"  {names[a.source]} -> {names[a.target]} [label={_quoted(a.shape)}];" for a in outline.arrows]
    return "\n".join([*lines, "}"])


def _dot(outline: Outline, frame: str, depth: int, names: dict[str, str]) -> Iterator[str]:
    indent = "  " * depth
    for item in outline.inside[frame]:
        if isinstance(item, str):
            yield f"{indent}subgraph cluster_{names['frame ' + item]} {{"
            yield f"{indent}  label={_quoted(item)};"
            yield from _dot(outline, item, depth + 1, names)
            yield f"{indent}}}"
        else:
            yield f"{indent}{names[item.name]} [label={_quoted(chr(10).join(_label(item)))}];"


def _label(box: Box) -> list[str]:
    return [
        box.title,
        *([box.name] if box.name != box.title else []),
        *([" · ".join(box.details)] if box.details else []),
    ]


def _numbers(outline: Outline) -> dict[str, str]:
    """Return an identifier for every box that Mermaid and DOT accept."""
    boxes = {box.name: f"n{number}" for number, box in enumerate(outline.boxes)}
    return boxes | {f"frame {frame}": f"f{number}" for number, frame in enumerate(outline.frames)}


def _quoted(words: str) -> str:
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _entities(words: str) -> str:
    return words.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
