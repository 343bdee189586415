"""Weight normalisation against PyTorch's own, and against the plain layer that it begins as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec.diagnostics import SpecError
from cnnspec.graph import build
from cnnspec.layers.base import to_public
from cnnspec.layers.weight_norm import WeightNorm
from cnnspec.optim.initializers import He
from cnnspec.plan import Weights
from cnnspec.shapes import ShapeError
from cnnspec.spec import loads
from cnnspec.train.network import Network
from tests.layers.harness import Bench

SPEC = """
cnnspec: 1
input: [3, 6, 6]
layers:
  - {type: weight_norm, layer: {type: conv2d, filters: 40, kernel_size: 3, activation: relu}}
  - batch_norm
  - flatten
  - {type: weight_norm, layer: {type: dense, units: 4}}
"""


def test_it_agrees_with_pytorchs_own() -> None:
    torch: Any = pytest.importorskip("torch")
    convolution = {"type": "conv2d", "filters": 4, "kernel_size": 3, "stride": 2, "padding": 1}
    bench = Bench(WeightNorm(layer=convolution), [(3, 7, 6)], sizes=[2])
    module = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=torch.float64)
    torch.nn.utils.parametrizations.weight_norm(module)
    length, direction = "parametrizations.weight.original0", "parametrizations.weight.original1"
    given = {length: bench.params["length"].reshape(4, 1, 1, 1), direction: bench.params["direction"]}
    module.load_state_dict({name: torch.tensor(a) for name, a in {**given, "bias": bench.params["bias"]}.items()})
    x = torch.tensor(to_public(bench.inputs[0]).copy(), requires_grad=True)
    y = module(x)
    np.testing.assert_allclose(to_public(bench.forward()), y.detach().numpy(), rtol=1e-12, atol=1e-13)
    y.backward(torch.tensor(to_public(bench.output_grads[0]).copy()))
    bench.backward()
    np.testing.assert_allclose(to_public(bench.input_grads[0]), x.grad.numpy(), rtol=1e-11, atol=1e-12)
    for theirs, ours in {length: "length", direction: "direction", "bias": "bias"}.items():
        expected = module.get_parameter(theirs).grad.numpy()
        np.testing.assert_allclose(bench.grads[ours], expected.reshape(bench.grads[ours].shape), rtol=1e-11, atol=1e-12)


def test_a_direction_of_zeros_gives_zeros_and_no_gradient() -> None:
    bench = Bench(WeightNorm(layer={"type": "dense", "units": 3, "bias": "none"}), [(5,)])
    bench.params["direction"][1] = 0
    assert not bench.forward()[1].any()
    bench.backward()
    assert not bench.grads["direction"][1].any()
    assert bench.grads["direction"][0].any()


def test_lengths_start_as_those_of_the_weights_that_weight_init_gives() -> None:
    graph = build(loads(SPEC))
    weights = Weights(graph)
    weights.initialise(0)
    plain = np.empty((2000, 3, 3, 3))
    He().fill(plain, (27, 0), np.random.default_rng(0))
    lengths = np.linalg.norm(plain.reshape(2000, -1), axis=1)
    found = weights.params["weight_norm_1.length"]
    assert found.mean() == pytest.approx(lengths.mean(), rel=0.1)
    assert found.std() == pytest.approx(lengths.std(), rel=0.4)
    constant = {"type": "dense", "units": 3, "weight_init": {"type": "constant", "value": -0.5}}
    parameter = WeightNorm(layer=constant).params((4,))["length"]
    array = np.zeros(3)
    parameter.initializer.fill(array, (4, 3), np.random.default_rng(0))
    np.testing.assert_array_equal(array, [1, 1, 1])


def test_a_spec_with_it_is_checked_counted_and_folded() -> None:
    spec = loads(SPEC)
    graph = build(spec)
    assert graph.parameter_count == 40 * 27 + 40 + 40 + 80 + 4 * 640 + 4 + 4
    assert [node.name for node in graph.nodes][:2] == ["weight_norm_1", "weight_norm_1.relu"]
    model = Network(spec, graph)
    images = np.random.default_rng(0).random((2, 3, 6, 6), np.float32)
    before = model.outputs(images)
    model.params["weight_norm_1.direction"][...] *= 3  # the length alone says how long a weight is
    np.testing.assert_allclose(model.outputs(images), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"type": "batch_norm"}, "expected dense, conv2d or depthwise_conv2d, got batch_norm"),
        ({"type": "weight_norm", "layer": {"type": "dense", "units": 3}}, "got weight_norm"),
        ({"type": "conv2d", "filters": 3, "kernel_size": 3, "padding": "reflect"}, "padding: reflect is a layer in"),
    ],
)
def test_what_has_no_rows_of_weights_is_refused(layer: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        WeightNorm(layer=layer).infer_shape((3, 8, 8))


def test_a_wrong_layer_is_told_at_its_place() -> None:
    with pytest.raises(SpecError) as caught:
        build(loads(SPEC.replace("{type: dense, units: 4}", "flatten")))
    (finding,) = caught.value.diagnostics
    assert finding.span.line == 8
    assert "got flatten" in finding.message
