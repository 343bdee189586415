"""Specs become graphs: edges, shapes, names, and every misfit at its place."""

from __future__ import annotations

import pytest

from cnnspec.diagnostics import SpecError
from cnnspec.graph import Graph, build
from cnnspec.graph.render import render
from cnnspec.spec import loads

HEAD = "cnnspec: 1\nname: t\ninput: [3, 16, 16]\nlayers:\n"


def graph(layers: str) -> Graph:
    return build(loads(HEAD + layers, "t.yaml"))


def error(layers: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        graph(layers)
    return caught.value


def test_each_layer_reads_the_one_above() -> None:
    made = graph("  - {type: conv2d, filters: 4, kernel_size: 3}\n  - relu\n  - flatten\n  - {type: dense, units: 5}\n")
    assert [(n.name, n.inputs, n.shape) for n in made.nodes] == [
        ("conv2d_1", ("input",), (4, 14, 14)),
        ("relu_1", ("conv2d_1",), (4, 14, 14)),
        ("flatten_1", ("relu_1",), (784,)),
        ("dense_1", ("flatten_1",), (5,)),
    ]
    assert made.parameter_count == 4 * 3 * 9 + 4 + 784 * 5 + 5
    assert made.macs == 4 * 3 * 9 * 14 * 14 + 784 * 5


def test_activation_is_shorthand_for_a_layer_behind() -> None:
    made = graph("  - {id: c, type: conv2d, filters: 4, kernel_size: 3, activation: relu}\n  - {type: relu, from: c}\n")
    assert [(n.name, n.inputs) for n in made.nodes] == [
        ("c", ("input",)),
        ("c.relu", ("c",)),
        ("relu_1", ("c.relu",)),
    ]


def test_several_inputs() -> None:
    made = graph(
        "  - {id: a, type: conv2d, filters: 4, kernel_size: 1}\n"
        "  - {id: b, type: conv2d, filters: 6, kernel_size: 1, from: input}\n"
        "  - {type: concat, from: [a, b]}\n"
    )
    assert made.output.inputs == ("a", "b")
    assert made.output.shape == (10, 16, 16)


def test_a_residual_takes_the_identity_where_shapes_agree() -> None:
    body = "{type: conv2d, filters: 3, kernel_size: 3, padding: same}"
    made = graph(f"  - {{id: r, type: residual, body: [{body}, relu]}}\n")
    assert made.output.name == "r"
    assert made.output.layer.type_name == "add"
    assert "input" in made.output.inputs
    assert len(made.nodes) == 3


def test_a_residual_projects_where_they_do_not() -> None:
    body = "{type: conv2d, filters: 8, kernel_size: 3, padding: same, stride: 2, bias: none}, batch_norm"
    made = graph(f"  - {{id: r, type: residual, body: [{body}]}}\n")
    kinds = [(n.name, n.layer.type_name, n.shape) for n in made.nodes if n.name.startswith("r.shortcut")]
    assert kinds == [("r.shortcut", "conv2d", (8, 8, 8)), ("r.shortcut.batch_norm", "batch_norm", (8, 8, 8))]


def test_branches_are_merged() -> None:
    made = graph(
        "  - type: parallel\n    merge: concat\n    branches:\n"
        "      - [{type: conv2d, filters: 4, kernel_size: 1}]\n"
        "      - [{type: conv2d, filters: 5, kernel_size: 1}, relu]\n"
    )
    assert made.output.shape == (9, 16, 16)


def test_a_kernel_that_does_not_fit_is_marked_at_its_value_with_the_trail() -> None:
    found = error("  - {id: c, type: conv2d, filters: 4, kernel_size: 17}\n  - relu\n  - flatten\n").diagnostics
    assert len(found) == 1  # what follows from an unknown shape is silent
    assert (found[0].code, found[0].span.line) == ("shape-mismatch", 5)
    assert found[0].span.column == 1 + "  - {id: c, type: conv2d, filters: 4, kernel_size: 17}".index("17")
    assert found[0].message == "conv2d 'c': kernel 17x17 does not fit the 16x16 input (padding 0)"
    assert found[0].notes == ("shapes so far: input 3x16x16 > c ?",)
    assert found[0].help == "use a kernel_size up to 16, or padding: same"


def test_all_misfits_come_at_once() -> None:
    found = error(
        "  - {id: a, type: conv2d, filters: 4, kernel_size: 17}\n"
        "  - {id: b, type: conv2d, filters: 4, kernel_size: 19, from: input}\n"
    ).diagnostics
    assert [d.span.line for d in found] == [5, 6]


CONV = "type: conv2d, filters: 3, kernel_size: 3, padding: same"
BLOCK = (
    f"  - {{use: b, id: x, repeat: 3}}\n  - {{type: add, from: [x, x.1]}}\nblocks: {{b: {{layers: [{{{CONV}}}]}}}}\n"
)


@pytest.mark.parametrize(
    ("layers", "id", "line", "owner"),
    [
        (
            f"  - {{id: a, {CONV}, activation: relu}}\n  - {{id: a.relu, type: tanh, from: input}}\n",
            "a.relu",
            6,
            "the activation of conv2d 'a'",
        ),
        (
            f"  - {{id: a.relu, type: tanh}}\n  - {{id: a, {CONV}, activation: relu}}\n",
            "a.relu",
            5,
            "the activation of conv2d 'a'",
        ),
        (
            f"  - {{id: r, type: residual, shortcut: projection, body: [{{id: shortcut, {CONV}}}]}}\n",
            "r.shortcut",
            5,
            "the projection of residual 'r'",
        ),
        (
            f"  - id: r\n    type: residual\n    shortcut: projection\n    body:\n      - {{{CONV}}}\n"
            "      - {id: shortcut.batch_norm, type: batch_norm}\n",
            "r.shortcut.batch_norm",
            10,
            "the normalisation in the projection of residual 'r'",
        ),
        (
            f"  - {{id: r.conv2d_1, {CONV}}}\n  - {{id: r, type: residual, body: [{{{CONV}}}]}}\n",
            "r.conv2d_1",
            5,
            "a layer of type conv2d",
        ),
        (
            f"  - type: parallel\n    branches: [[{{{CONV}}}], []]\n  - {{id: parallel_1.1.conv2d_1, {CONV}}}\n",
            "parallel_1.1.conv2d_1",
            7,
            "a layer of type conv2d",
        ),
        (f"  - {{id: x.1, {CONV}}}\n{BLOCK}", "x.1", 6, "a layer of type conv2d"),
        (f"  - {{id: x.3, {CONV}}}\n{BLOCK}", "x.3", 5, "a block"),
    ],
)
def test_an_id_that_something_else_has_is_an_error_at_its_place(layers: str, id: str, line: int, owner: str) -> None:
    """Ids may hold dots, as the names do that activations, projections and what is nested get."""
    (found,) = error(layers).diagnostics
    assert (found.code, found.message) == ("duplicate-id", f"id '{id}' is also the name of {owner}")
    assert found.span.line == line
    assert found.related


def test_the_last_repetition_has_the_name_of_all_and_its_number() -> None:
    made = graph(BLOCK.replace("[x, x.1]", "[x, x.3, x.2]"))
    assert made.output.inputs == ("x.3.conv2d_1", "x.3.conv2d_1", "x.2.conv2d_1")


EXTRA = "blocks: {extra: {layers: [{type: relu, when: false}]}}\n"


def test_the_output_is_what_the_last_entry_stands_for_even_without_a_layer() -> None:
    made = graph(
        f"  - {{id: head, {CONV}}}\n  - {{id: side, type: relu, from: input}}\n  - {{use: extra, from: head}}\n" + EXTRA
    )
    assert made.output.name == "head"
    assert [node.name for node in made.nodes] == ["side", "head"]
    read = build(loads(render(loads(HEAD + "  - relu\n"), made)))
    assert read.output.name == "head"


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        (f"  - {{id: head, {CONV}}}\n  - relu\n  - {{use: extra, from: head}}\n", "'head', which 'relu_1' reads"),
        ("  - relu\n  - {use: extra, from: input}\n", "its input"),
    ],
)
def test_an_output_that_nobody_expects_is_an_error(layers: str, problem: str) -> None:
    (found,) = error(layers + EXTRA).diagnostics
    assert found.message == f"layers: the last entry makes no layer, so the network's output would be {problem}"
    assert found.span.line == 4 + layers.count("\n")
