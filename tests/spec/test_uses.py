"""Blocks that read and make several values, and uses that have the parameters of others: against the same by hand."""

from __future__ import annotations

from typing import Any

import pytest

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import Graph, build
from cnnspec.graph.render import render
from cnnspec.lints import lint
from cnnspec.spec import loads

HEAD = "cnnspec: 1\ninput: [3, 8, 8]\n"


def graph(text: str) -> Graph:
    return build(loads(HEAD + text, "f.yaml"))


def outline(text: str) -> list[Any]:
    """The layers, what they read and whose parameters they use, by position."""
    made = graph(text)
    position: dict[str | None, int] = {node.name: i for i, node in enumerate(made.nodes)}
    return [
        (node.layer, [position.get(name) for name in node.inputs], position.get(node.share), node.trainable)
        for node in made.nodes
    ]


def told(text: str) -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        graph(text)
    return list(caught.value.diagnostics)


GATE = """
blocks:
  gated:
    inputs: [x, condition]
    layers:
      - {id: weights, type: conv2d, filters: $in, kernel_size: 1, from: condition}
      - {type: multiply, from: [x, weights]}
"""
TWO = "  - {id: a, type: tanh}\n  - {id: b, type: sigmoid, from: input}\n"
CONV = "type: conv2d, filters: 3, kernel_size: 1"


@pytest.mark.parametrize("given", ["[a, b]", "{x: a, condition: b}", "{condition: b, x: a}"])
def test_a_block_of_two_inputs(given: str) -> None:
    by_hand = f"layers:\n{TWO}  - {{id: w, {CONV}, from: b}}\n  - {{type: multiply, from: [a, w]}}"
    assert outline(f"{GATE}layers:\n{TWO}  - {{use: gated, from: {given}}}") == outline(by_hand)


def test_the_first_input_is_the_layer_above_where_it_is_not_named() -> None:
    by_hand = f"layers:\n{TWO}  - {{id: w, {CONV}, from: a}}\n  - {{type: multiply, from: [b, w]}}"
    assert outline(f"{GATE}layers:\n{TWO}  - {{use: gated, from: {{condition: a}}}}") == outline(by_hand)


def test_repetitions_hand_on_their_first_input() -> None:
    by_hand = f"""layers:
{TWO}
  - {{id: w1, {CONV}, from: b}}
  - {{id: x, type: multiply, from: [a, w1]}}
  - {{id: w2, {CONV}, from: b}}
  - {{type: multiply, from: [x, w2]}}
"""
    assert outline(f"{GATE}layers:\n{TWO}  - {{use: gated, repeat: 2, from: [a, b]}}") == outline(by_hand)


def test_an_input_is_known_in_what_is_nested_and_one_may_be_named_too() -> None:
    text = """
blocks:
  one: {inputs: [x], layers: [{type: residual, body: [tanh, {type: add, from: [tanh_1, x]}]}]}
layers: [{id: a, type: relu}, sigmoid, {use: one, from: a}, one]
"""
    by_hand = """
layers:
  - {id: a, type: relu}
  - sigmoid
  - {id: t, type: tanh, from: a}
  - {id: s, type: add, from: [t, a]}
  - {id: r, type: add, from: [s, a]}
  - {id: u, type: tanh, from: r}
  - {id: v, type: add, from: [u, r]}
  - {type: add, from: [v, r]}
"""
    assert outline(text) == outline(by_hand)


@pytest.mark.parametrize(
    ("use", "code", "message"),
    [
        ("{use: gated}", "missing-key", "the block reads 2 values: x, condition"),
        ("{use: gated, from: a}", "invalid-value", "from: expected 2 layers, got 1"),
        ("{use: gated, from: {x: a}}", "invalid-value", "from: expected 2 layers, got 1"),
        ("{use: gated, from: {x: a, conditon: b}}", "unknown-key", "unknown input of the block 'conditon'"),
        ("{use: gated, from: [a, c]}", "unknown-reference", "unknown layer above 'c'"),
        (
            "{type: relu, from: {x: a}}",
            "invalid-value",
            "from: expected the id of a layer or a list of ids, got a mapping",
        ),
        (
            "{use: squeeze_excite, with: {filters: 3}, from: {x: a}}",
            "invalid-value",
            "from: expected the id of a layer, got a mapping: the block gives its inputs no names",
        ),
    ],
)
def test_inputs_that_do_not_fit(use: str, code: str, message: str) -> None:
    found = told(f"{GATE}layers:\n{TWO}  - {use}")[0]
    assert (found.code, found.message) == (code, message)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("[x, x]", "inputs: expected a list of different names, got ['x', 'x']"),
        ("[]", "inputs: expected a list of different names, got []"),
        ("x", "inputs: expected a list of different names, got 'x'"),
        ("[input, x]", "inputs: 'input' is the first one's name in every block"),
    ],
)
def test_inputs_that_are_declared_wrongly(inputs: str, message: str) -> None:
    text = f"{GATE.replace('[x, condition]', inputs, 1)}layers:\n{TWO}  - {{use: gated, from: [a, b]}}"
    assert message in [found.message for found in told(text)]


def test_an_input_that_nothing_reads_is_warned_of() -> None:
    blocks = "blocks: {one: {inputs: [x, y, z], layers: [{type: add, from: [x, z]}]}}\n"
    spec = loads(f"{HEAD}{blocks}layers:\n{TWO}  - {{use: one, from: [a, b, a], repeat: 2}}")
    assert [(found.code, found.message) for found in spec.warnings] == [
        ("unused-parameter", "input 'y' of block 'one' is never read")
    ]
    assert not loads(f"{HEAD}{GATE}layers:\n{TWO}  - {{use: gated, from: [a, b]}}").warnings


SPLIT = """
blocks:
  halves:
    outputs: OUTPUTS
    layers:
      - {id: left, type: tanh}
      - {id: right, type: sigmoid, from: input}
"""


@pytest.mark.parametrize(
    ("outputs", "names"),
    [("[left, right]", ("h", "h.right")), ("{main: left, other: right}", ("h.main", "h.other"))],
)
def test_a_block_of_two_outputs(outputs: str, names: tuple[str, str]) -> None:
    by_hand = "layers: [{id: l, type: tanh}, {id: r, type: sigmoid, from: input}, {type: relu, from: l}"
    blocks = SPLIT.replace("OUTPUTS", outputs)
    text = f"{blocks}layers: [{{id: h, use: halves}}, relu, {{type: add, from: [relu_1, {names[0]}, {names[1]}]}}]"
    assert outline(text) == outline(f"{by_hand}, {{type: add, from: [relu_1, l, r]}}]")
    spec = loads(HEAD + text)
    assert not lint(spec, build(spec))


def test_the_outputs_of_repetitions() -> None:
    blocks = SPLIT.replace("OUTPUTS", "{main: left, other: right}")
    text = (
        f"{blocks}layers: [{{id: h, use: halves, repeat: 2}}, {{type: add, from: [h, h.1.other, h.other, h.2.main]}}]"
    )
    made = graph(text)
    assert made.output.inputs == ("h.2.left", "h.1.right", "h.2.right", "h.2.left")
    assert made.node("h.2.right").inputs == ("h.1.left",)


@pytest.mark.parametrize("outputs", ["[lft]", "{main: input}", "{left: right}"])
def test_outputs_that_there_are_not(outputs: str) -> None:
    (found,) = told(f"{SPLIT.replace('OUTPUTS', outputs)}layers: [{{use: halves}}]")
    assert found.span.line == 6


UNIT = """
blocks:
  unit:
    params: {kernel_size: 3}
    layers:
      - type: residual
        shortcut: projection
        body:
          - {id: c, type: conv2d, filters: 3, kernel_size: $kernel_size, padding: same, activation: prelu}
          - batch_norm
          - {type: conv2d, filters: 3, kernel_size: $kernel_size, padding: same}
          - {type: conv2d, filters: 3, kernel_size: $kernel_size, padding: same, share: c}
"""


@pytest.mark.parametrize(
    "layers",
    [
        "[{use: unit, repeat: 3, share: true}]",
        "[{id: a, use: unit}, {use: unit, share: a}, {use: unit, share: a}]",
        "[{id: a, use: unit}, {use: unit, share: a, repeat: 2}]",
        "[{id: a, use: unit}, {id: b, use: unit, share: a}, {use: unit, share: b}]",
        "[{id: a, use: unit, repeat: 2, share: true}, {use: unit, share: a}]",
    ],
)
def test_a_tied_use_has_the_parameters_of_another_one(layers: str) -> None:
    tied, free = graph(f"{UNIT}layers: {layers}"), graph(f"{UNIT}layers: [unit, unit, unit]")
    assert [(node.layer, node.shape) for node in tied.nodes] == [(node.layer, node.shape) for node in free.nodes]
    assert tied.parameter_count * 3 == free.parameter_count
    width, position = len(tied.nodes) // 3, {node.name: i for i, node in enumerate(tied.nodes)}
    for i, node in enumerate(tied.nodes[width:], width):
        inside = tied.nodes[i % width].share
        owner = position[inside] if inside else i % width
        assert (position[node.share] if node.share else None) == (owner if node.params else None)
    again = build(loads(render(loads(f"{HEAD}{UNIT}layers: {layers}"), tied)))
    assert [(node.layer, node.share) for node in again.nodes] == [(node.layer, node.share) for node in tied.nodes]


def test_repetitions_are_tied_to_those_of_the_same_number() -> None:
    made = graph(f"{UNIT}layers: [{{id: a, use: unit, repeat: 2}}, {{id: b, use: unit, repeat: 2, share: a}}]")
    shares = {node.name.rsplit(".", 1)[0]: node.share for node in made.nodes if node.name.endswith(".residual_1.c")}
    assert shares == {
        "a.1.residual_1": None,
        "a.2.residual_1": None,
        "b.1.residual_1": "a.1.residual_1.c",
        "b.2.residual_1": "a.2.residual_1.c",
    }


def test_a_tied_use_is_frozen_where_its_owner_is() -> None:
    made = graph(f"{UNIT}layers: [{{id: a, use: unit, trainable: false}}, {{use: unit, share: a}}]")
    assert not any(node.trainable for node in made.nodes if node.params)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[{use: unit, share: true}]", "share: true ties the repetitions of a block, and this one is not repeated"),
        ("[{id: a, type: relu}, {use: unit, share: a}]", "share: 'a' is no use of block 'unit'"),
        (
            "[{id: a, use: unit}, {use: unit, share: a, trainable: false}]",
            "trainable: that of the use whose parameters are shared holds here too",
        ),
        ("[{use: unit, share: nothing}]", "unknown layer above 'nothing'"),
        (
            "[{id: a, use: unit}, {id: b, use: unit, share: a, with: {kernel_size: 5}}]",
            "conv2d 'b.residual_1.c' cannot use the parameters of 'a.residual_1.c': "
            "expected weight 3x3x3x3, bias 3, got weight 3x3x5x5, bias 3",
        ),
    ],
)
def test_uses_that_cannot_be_tied(layers: str, message: str) -> None:
    assert message in [found.message for found in told(f"{UNIT}layers: {layers}")]
