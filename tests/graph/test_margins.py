"""Convolutions whose padding is made of the map's own pixels: as a layer of margins in front, and as in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import Graph, build
from cnnspec.plan import Weights, lower
from cnnspec.spec import loads
from cnnspec.workers import WorkerPool

HEAD = "cnnspec: 1\ninput: [3, 8, 7]\nlayers:\n"
KINDS = ("conv2d, filters: 4", "depthwise_conv2d", "separable_conv2d, filters: 4")


def graph(text: str) -> Graph:
    return build(loads(HEAD + text, "f.yaml"))


def told(text: str) -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        graph(text)
    return list(caught.value.diagnostics)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("windows", "margins"),
    [
        ("kernel_size: 3", "[1, 1, 1, 1]"),
        ("kernel_size: [4, 1]", "[1, 2, 0, 0]"),
        ("kernel_size: 3, stride: 2", "[0, 1, 1, 1]"),
        ("kernel_size: 3, dilation: 2", "[2, 2, 2, 2]"),
    ],
)
def test_the_padding_stands_for_a_layer_of_margins(mode: str, kind: str, windows: str, margins: str) -> None:
    short = graph(f"  - {{type: {kind}, {windows}, padding: {mode}}}\n")
    long = graph(
        f"  - {{type: pad2d, padding: {margins}, mode: {mode}}}\n  - {{type: {kind}, {windows}, padding: valid}}\n"
    )
    assert [node.layer for node in short.nodes] == [node.layer for node in long.nodes]
    name = f"{kind.partition(',')[0]}_1"
    assert [(node.name, *node.inputs) for node in short.nodes] == [
        (f"{name}.pad2d", "input"),
        (name, f"{name}.pad2d"),
    ]


def test_a_kernel_that_needs_no_margin_has_none() -> None:
    made = graph("  - {type: conv2d, filters: 2, kernel_size: 1, padding: reflect, activation: relu}\n")
    assert [node.name for node in made.nodes] == ["conv2d_1", "conv2d_1.relu"]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_the_result_is_that_of_pytorch(mode: str) -> None:
    torch = pytest.importorskip("torch")
    made = graph(f"  - {{type: conv2d, filters: 4, kernel_size: [3, 5], padding: {mode}}}\n")
    weights, random = Weights(made, dtype="float64"), np.random.default_rng(0)
    weights.initialise(0)
    weights.params["conv2d_1.bias"][...] = random.normal(size=4)
    plan = lower(made, 2, "infer", weights, WorkerPool(1))
    plan.images[...] = random.normal(size=(2, 3, 8, 7))
    plan.compute()
    twin = torch.nn.Conv2d(3, 4, (3, 5), padding="same", padding_mode=mode, dtype=torch.float64)
    twin.load_state_dict({name: torch.tensor(weights.params[f"conv2d_1.{name}"]) for name in ("weight", "bias")})
    expected = twin(torch.tensor(plan.images.astype("float64"))).detach().numpy()
    np.testing.assert_allclose(plan.output, expected, rtol=1e-5, atol=1e-5)


def test_a_map_that_is_too_small_is_reported_at_the_padding() -> None:
    (found,) = told("  - {type: conv2d, filters: 4, kernel_size: 17, padding: reflect}\n")
    assert (found.code, found.span.line, found.path) == ("shape-mismatch", 4, "layers[0].padding")
    assert "expected margins of at most 7 rows for reflect on a map of 8 rows, got 8" in found.message


def test_only_convolutions_take_it_and_a_vector_has_no_margins() -> None:
    (found,) = told("  - {type: max_pool2d, kernel_size: 3, padding: reflect}\n")
    assert found.message.startswith("padding: expected one of valid, same, same_lower, half or an integer")
    (found,) = told("  - flatten\n  - {type: conv2d, filters: 4, kernel_size: 3, padding: reflect}\n")
    assert "got a vector of 168 features" in found.message


def test_a_layer_that_shares_parameters_has_its_own_margin() -> None:
    made = graph(
        "  - {id: a, type: conv2d, filters: 3, kernel_size: 3, padding: circular}\n"
        "  - {type: conv2d, filters: 3, kernel_size: 3, padding: circular, share: a}\n"
    )
    assert [node.share for node in made.nodes] == [None, None, None, "a"]
