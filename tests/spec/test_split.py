"""A map that is split into several: the same as slices by hand, its parts by name, and what is told of mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from cnnspec.cli import main
from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import Graph, build
from cnnspec.graph.render import render
from cnnspec.lints import lint
from cnnspec.spec import loads

HEAD = "cnnspec: 1\ninput: [12, 8, 8]\n"


def graph(text: str) -> Graph:
    return build(loads(HEAD + text, "f.yaml"))


def outline(text: str) -> list[Any]:
    """The layers, and what they read by position."""
    made = graph(text)
    position = {"input": -1} | {node.name: i for i, node in enumerate(made.nodes)}
    return [(node.layer, [position[name] for name in node.inputs]) for node in made.nodes]


def told(text: str) -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        graph(text)
    return list(caught.value.diagnostics)


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("parts: 2", ["part: 1, of: 2", "part: 2, of: 2"]),
        ("sizes: [2, 9, 1]", ["stop: 2", "start: 2, stop: 11", "start: 11, stop: 12"]),
        ("sizes: [4, '${in - 4}']", ["stop: 4", "start: 4, stop: 12"]),
    ],
)
def test_a_split_is_a_slice_for_each_part(said: str, parts: list[str]) -> None:
    names = ", ".join(f"s.{i}" for i in range(len(parts), 0, -1))
    by_hand = "".join(f"  - {{id: p{i}, type: slice, channels: {{{part}}}, from: a}}\n" for i, part in enumerate(parts))
    merged = ", ".join(f"p{i}" for i in reversed(range(len(parts))))
    first = "layers:\n  - {id: a, type: tanh}\n"
    short = f"{first}  - {{id: s, type: split, {said}}}\n  - {{type: concat, from: [{names}]}}\n"
    assert outline(short) == outline(f"{first}{by_hand}  - {{type: concat, from: [{merged}]}}\n")


def test_the_layer_below_and_the_id_alone_mean_the_first_part() -> None:
    text = "layers:\n  - {id: s, type: split, parts: 3}\n  - {id: t, type: tanh}\n"
    text += "  - {type: concat, from: [s, t, s.2, s.3]}\n"
    made = graph(text)
    assert [list(node.inputs) for node in made.nodes[3:]] == [["s.1"], ["s.1", "t", "s.2", "s.3"]]
    assert not lint(loads(HEAD + text, "f.yaml"), made)
    again = build(loads(render(loads(HEAD + text, "f.yaml"), made), "g.yaml"))
    assert [(node.name, node.layer, node.inputs) for node in again.nodes] == [
        (node.name, node.layer, node.inputs) for node in made.nodes
    ]


def test_a_split_in_a_block_that_is_repeated_and_tied() -> None:
    made = graph("""
blocks:
  half:
    layers:
      - {id: s, type: split, parts: 2}
      - {type: conv2d, filters: $in, kernel_size: 3, padding: same}
      - {type: concat, from: [conv2d_1, s.2]}
layers: [{id: x, use: half, repeat: 3, share: true}, {type: conv2d, filters: 2, kernel_size: 1, from: x.3.s.2}]
""")
    assert made.output.inputs == ("x.3.s.2",)
    assert made.parameter_count == 6 * 6 * 9 + 6 + 6 * 2 + 2


def test_a_part_that_nothing_reads_is_a_dead_layer() -> None:
    text = f"{HEAD}layers: [{{type: split, parts: 2}}, tanh]\n"
    spec = loads(text, "f.yaml")
    assert [(found.code, found.span.line) for found in lint(spec, build(spec))] == [("dead-layer", 3)]


@pytest.mark.parametrize(
    ("said", "path", "message"),
    [
        ("parts: 5", ".parts", "split: expected a number of parts that divides the 12 channels, got 5"),
        ("sizes: [3, 4]", ".sizes", "split: expected sizes that add up to the 12 channels, got 7"),
        ("parts: 1", ".parts", "parts: expected from 2 to 1,000 parts, got 1"),
        ("sizes: [12]", ".sizes", "sizes: expected from 2 to 1,000 parts, got 1"),
        ("parts: 2, sizes: [6, 6]", "", "split: expected parts or sizes, got both"),
        ("id: s", "", "split: expected parts or sizes, got neither"),
        ("sizes: 6", ".sizes", "sizes: expected a list of values, each an integer at least 1, got 6"),
        ("sizes: [6, 0]", ".sizes[1]", "sizes[1]: expected an integer at least 1, got 0"),
        ("part: 2", ".part", "unknown key of split 'part'"),
    ],
)
def test_mistakes_are_marked(said: str, path: str, message: str) -> None:
    (found,) = told(f"layers:\n  - {{type: split, {said}}}\n  - flatten\n")
    assert (found.message, found.path, found.span.line) == (message, f"layers[0]{path}", 4)


def test_a_vector_is_not_split() -> None:
    found, *_ = told("layers:\n  - flatten\n  - {type: split, parts: 2}\n")
    assert "expected a map of channels x height x width, got a vector of 768 features" in found.message


def test_it_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "split"]) == 0
    assert "halves.2" in capsys.readouterr().out
