"""Blocks: what is shipped, what is known inside of one, and what a key beside `use` does to all of it."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.diagnostics import SpecError
from cnnspec.graph import Graph, build
from cnnspec.lints import lint
from cnnspec.plan import Weights, lower
from cnnspec.spec import loads
from cnnspec.spec.blocks import shipped
from cnnspec.workers import WorkerPool

HEAD = "cnnspec: 1\ninput: [4, 6, 6]\n"
UNIT = """
blocks:
  unit:
    params: {filters: required}
    layers:
      - {type: conv2d, filters: $filters, kernel_size: 3, padding: 1, bias: none}
      - batch_norm
"""


def graph(text: str) -> Graph:
    return build(loads(HEAD + text, "f.yaml"))


def only(text: str) -> tuple[str, int, str]:
    with pytest.raises(SpecError) as caught:
        graph(text)
    (found,) = caught.value.diagnostics
    return found.code, found.span.line, found.message


def test_squeeze_excite_is_there_without_being_defined() -> None:
    """Against its formula: y = x sigmoid(B relu(A mean(x) + a) + b) (Hu et al. 2018, equations 2 to 4)."""
    made = graph("layers:\n  - {use: squeeze_excite, with: {filters: 4, reduction: 2}}\n")
    weights, random = Weights(made, dtype="float64"), np.random.default_rng(0)
    weights.initialise(0)
    for array in weights.params.values():
        array[...] = random.normal(0, 1, array.shape)
    plan = lower(made, 3, "infer", weights, WorkerPool(1))
    x = random.normal(0, 1, (3, 4, 6, 6))
    plan.images[...] = x
    plan.compute()
    outer, inner, inner_bias, outer_bias = (
        weights.params[f"squeeze_excite_1.parallel_1.2.dense_{number}.{name}"]
        for number, name in ((2, "weight"), (1, "weight"), (1, "bias"), (2, "bias"))
    )
    squeezed = np.maximum(x.mean((2, 3)) @ inner.T + inner_bias, 0)
    gate = 1 / (1 + np.exp(-(squeezed @ outer.T + outer_bias)))
    np.testing.assert_allclose(plan.output, x * gate[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_a_mistake_in_the_use_of_a_shipped_block_is_marked_in_the_spec() -> None:
    code, line, message = only("layers:\n  - {use: squeeze_excite, with: {channels: 4}}\n")
    assert (code, line, message) == ("unknown-parameter", 4, "unknown parameter 'channels'")
    with pytest.raises(SpecError) as caught:
        graph("layers:\n  - {use: squeeze_excite, with: {filters: 5}}\n")
    (found,) = caught.value.diagnostics
    assert "got 4x6x6 as input 1" in found.message
    assert [(use.message, use.span.file, use.span.line) for use in found.related] == [
        ("block 'squeeze_excite' used here", "f.yaml", 4)
    ]


def test_a_shipped_block_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    for name in shipped().values:
        assert main(["explain", name]) == 0
        page = capsys.readouterr().out
        assert page.startswith(f"{name} (block)\n\n# ")
        assert f"\n{name}:\n  params: {{" in page


@pytest.mark.parametrize("padding", [0, 2, "valid", "same", "half", "circular"])
def test_convolutions_and_pooling_along_a_sequence_are_those_of_pytorch(padding: int | str) -> None:
    torch = pytest.importorskip("torch")
    said = f"filters: 4, kernel_size: 5, padding: {padding}, dilation: 2, groups: 2"
    pool = "kernel_size: 3, stride: 2, padding: 1"
    text = f"cnnspec: 1\ninput: [6, 1, 20]\nlayers: [{{use: conv1d, with: {{{said}}}}}, POOL]\n"
    random = np.random.default_rng(0)
    x, weight, bias = random.normal(size=(2, 6, 20)), random.normal(size=(4, 3, 5)), random.normal(size=4)
    twin = torch.nn.functional.conv1d
    margin = {"same": 4, "half": 4, "circular": 4, "valid": 0}.get(str(padding), padding)
    mode = "circular" if padding == "circular" else "constant"
    wide = torch.nn.functional.pad(torch.tensor(x), (margin, margin), mode=mode)
    convolved = twin(wide, torch.tensor(weight), torch.tensor(bias), dilation=2, groups=2)
    for name, expected in (
        ("max_pool1d", torch.nn.functional.max_pool1d(convolved, 3, 2, 1)),
        ("avg_pool1d", torch.nn.functional.avg_pool1d(convolved, 3, 2, 1, count_include_pad=False)),
    ):
        made = build(loads(text.replace("POOL", f"{{use: {name}, with: {{{pool}}}}}"), "f.yaml"))
        weights = Weights(made, dtype="float64")
        weights.params["conv1d_1.conv2d_1.weight"][...] = weight[:, :, None]
        weights.params["conv1d_1.conv2d_1.bias"][...] = bias
        plan = lower(made, 2, "infer", weights, WorkerPool(1))
        plan.images[...] = x[:, :, None]
        plan.compute()
        np.testing.assert_allclose(plan.output[:, :, 0], expected, rtol=1e-5, atol=1e-5)


def test_patches_are_embedded_with_and_without_positions() -> None:
    made = graph("layers: [{use: patch_embed, with: {filters: 5, patch_size: 3}}]")
    assert [node.layer.type_name for node in made.nodes] == ["conv2d", "positions"]
    assert made.output.shape == (5, 2, 2)
    assert made.parameter_count == 5 * 4 * 9 + 5 + 5 * 2 * 2
    made = graph("layers: [{use: patch_embed, with: {filters: 5, patch_size: 3, positions: false}}]")
    assert made.parameter_count == 5 * 4 * 9 + 5


def test_a_value_that_a_shipped_block_puts_into_a_list_is_marked_where_the_spec_gives_it() -> None:
    code, line, message = only("layers:\n  - {use: conv1d, with: {filters: 4, padding: causal}}\n")
    assert (code, line) == ("invalid-value", 4)
    assert message.startswith("padding: expected one of valid")
    assert message.endswith("got [0, 'causal']")


def test_a_block_of_the_spec_goes_before_a_shipped_one() -> None:
    assert "squeeze_excite" in shipped().values
    made = graph("blocks: {squeeze_excite: {layers: [tanh]}}\nlayers: [{use: squeeze_excite}]\n")
    assert [node.layer.type_name for node in made.nodes] == ["tanh"]


def test_a_block_knows_its_parameters_and_the_variables_alone() -> None:
    """Not those of the block that uses it: what a block means does not depend on who uses it."""
    blocks = """
vars: {wide: 8}
blocks:
  inner: {params: {k: 1}, layers: [{type: conv2d, filters: $FILTERS, kernel_size: $k}]}
  outer: {params: {narrow: 2}, layers: [{use: inner}]}
layers: [{use: outer}]
"""
    assert graph(blocks.replace("$FILTERS", "$wide")).output.shape == (8, 6, 6)
    assert only(blocks.replace("$FILTERS", "$narrow")) == ("unknown-name", 6, "unknown name 'narrow'")


def test_index_is_that_of_the_block_itself() -> None:
    made = graph("""
blocks:
  inner: {layers: [{type: conv2d, filters: "${index + 1}", kernel_size: 1}]}
  outer: {params: {n: required}, layers: [{use: inner, repeat: 2}, {type: conv2d, filters: $n, kernel_size: 1}]}
layers: [{use: outer, repeat: 2, with: {n: "${10 + index}"}}]
""")
    assert [node.shape[0] for node in made.nodes] == [1, 2, 10, 1, 2, 11]


@pytest.mark.parametrize("item", ["{type: residual, BODY}", "{type: parallel, BRANCHES}", "{use: unit, WITH}"])
def test_what_reads_one_value_takes_no_two(item: str) -> None:
    for key, value in (
        ("BODY", "body: [relu]"),
        ("BRANCHES", "branches: [[relu], []]"),
        ("WITH", "with: {filters: 2}"),
    ):
        item = item.replace(key, f"from: [a, b], {value}")
    found = only(f"{UNIT}layers:\n  - {{id: a, type: relu}}\n  - {{id: b, type: relu}}\n  - {item}\n")
    assert found == ("invalid-value", 13, "from: expected the id of one layer, got a list of 2")


def test_freezing_holds_for_all_that_is_inside() -> None:
    made = graph(f"""{UNIT}layers:
  - {{use: unit, trainable: false, repeat: 2, with: {{filters: 8}}}}
  - type: residual
    trainable: false
    body: [{{type: parallel, branches: [[{{use: unit, with: {{filters: 4}}}}], [{{use: unit, with: {{filters: 2}}}}]]}}]
  - {{type: parallel, trainable: false, branches: [[], [{{use: unit, with: {{filters: 2}}}}]]}}
  - {{use: unit, with: {{filters: 3}}}}
""")
    trained = [node.name for node in made.nodes if node.params and node.trainable]
    assert trained == ["unit_2.conv2d_1", "unit_2.batch_norm_1"]
    assert sum(node.name.startswith("residual_1.shortcut") for node in made.nodes) == 2


def test_a_projection_is_normalised_where_the_body_is_however_deep() -> None:
    made = graph(f"{UNIT}layers:\n  - {{type: residual, body: [{{use: unit, with: {{filters: 8}}}}]}}\n")
    kinds = {node.name: node.layer.type_name for node in made.nodes}
    assert kinds["residual_1.shortcut.batch_norm"] == "batch_norm"
    assert not any("bias" in node.params for node in made.nodes if node.layer.type_name == "conv2d")


def test_a_projection_of_a_vector_is_dense() -> None:
    made = graph("layers:\n  - flatten\n  - {type: residual, body: [{type: dense, units: 5}, relu]}\n")
    assert made.output.shape == (5,)
    assert [node.layer.type_name for node in made.nodes] == ["flatten", "dense", "relu", "dense", "add"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{type: conv2d, filters: 4, kernel_size: 3}", "no projection makes 4x4x4, the body's output, of 4x6x6"),
        ("{type: upsample2d, scale: 2}", "no projection makes 4x12x12, the body's output, of 4x6x6"),
        ("flatten", "no projection makes 144, the body's output, of 4x6x6"),
    ],
)
def test_what_no_projection_reaches_is_told(body: str, message: str) -> None:
    assert only(f"layers:\n  - {{type: residual, body: [{body}]}}\n") == (
        "shape-mismatch",
        4,
        f"residual 'residual_1': {message}",
    )


def test_a_misspelt_reference_into_a_block_finds_the_layers_inside() -> None:
    with pytest.raises(SpecError) as caught:
        graph(f"""{UNIT}layers:
  - {{id: stage, use: unit, repeat: 2, with: {{filters: 4}}}}
  - {{type: add, from: [stage, stage.2.conv_1]}}
""")
    assert caught.value.diagnostics[0].help == "did you mean stage.2.conv2d_1 or stage.1.conv2d_1?"


def test_an_id_in_a_block_is_of_use_where_one_instance_is_referred_into() -> None:
    text = """cnnspec: 1
input: [4, 6, 6]
blocks: {unit: {layers: [{id: a, type: relu}, tanh]}}
layers: [{id: s, use: unit, repeat: 2}, {type: add, from: [s.1.a, s]}]
"""
    spec = loads(text)
    assert not lint(spec, build(spec))


def test_a_value_that_a_shipped_block_cannot_compute_with_is_wrong_where_it_is_given() -> None:
    text = "cnnspec: 1\nname: net\ninput: [8, 4, 4]\nlayers:\n  - {use: squeeze_excite, with: {reduction: null}}\n"
    with pytest.raises(SpecError) as raised:
        build(loads(text, "net.yaml"))
    (found,) = raised.value.diagnostics
    assert (found.code, found.span.file, found.span.line) == ("bad-expression", "net.yaml", 5)
