"""The ONNX model computes what the network computes, in onnxruntime, for any number of images and in every opset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model, compile
from cnnspec.diagnostics import RunError
from cnnspec.export import onnx, onnx_layers, onnx_writer
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer
from cnnspec.plan import Weights
from cnnspec.shapes import Shape
from cnnspec.spec import load, loads
from cnnspec.target import Target
from cnnspec.train.network import Network
from tests.compare.test_pytorch import EXPORTED, RARE, SHARED, SPECS
from tests.export.test_numpy_program import CASES, LARGE_SPECS, PREPARED, one_layer, randomised
from tests.layers.draws import new
from tests.samples import sampled

runtime = pytest.importorskip("onnxruntime")
OPSETS = (None, onnx_writer.NEWEST)


def outputs(model: Any, images: Array) -> Array:
    """What onnxruntime makes of images."""
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(found)


def agrees(network: Network, model: Any, counts: Sequence[int], tolerance: float = 1e-5) -> None:
    for count in counts:
        images = np.random.default_rng(count).random((count, *network.graph.input_shape), np.float32)
        expected, found = network.outputs(images), outputs(model, images)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("opset", sampled(OPSETS, 2))
@pytest.mark.parametrize("spec", [*EXPORTED, RARE, SHARED], ids=[*(path.stem for path in EXPORTED), "rare", "shared"])
def test_small_networks(spec: Path | str, opset: int | None) -> None:
    read = loads(spec) if isinstance(spec, str) else load(spec)
    network = randomised(Network(read, build(read), threads=1))
    agrees(network, onnx.model(network.graph, dict(network.weights.arrays()), opset), (1, 2, 7))


@pytest.mark.parametrize("spec", LARGE_SPECS, ids=lambda path: path.stem)
def test_large_networks(spec: Path) -> None:
    network = randomised(Network(read := load(spec), build(read), threads=1))
    agrees(network, onnx.network_model(network, "", raw=True), (1,))


@pytest.mark.parametrize("opset", sampled(OPSETS, 2))
@pytest.mark.parametrize(("name", "fields", "shapes"), CASES)
def test_every_layer(name: str, fields: Mapping[str, Any], shapes: Sequence[Shape], opset: int | None) -> None:
    layer: Layer = new(name, **fields)
    read = loads(one_layer(name, fields, shapes))
    network = randomised(Network(read, build(read), threads=1))
    arrays = dict(network.weights.arrays())
    if layer.train_only or name in {*onnx_layers.WRITERS, "weight_norm"}:
        model = onnx.model(network.graph, arrays, opset)
        agrees(network, model, (2,), 1e-4)
    else:
        with pytest.raises(RunError, match=name):
            onnx.model(network.graph, arrays, opset)


ATTENTIVE = """\
cnnspec: 1
input: [4, 4, 6]
layers:
  - {id: a, type: attention, heads: 2, window: [2, 3]}
  - {id: b, type: attention, heads: 4, bias: none}
  - {type: matmul, transpose: second, from: [a, b]}
"""


def test_attention_takes_any_number_of_images() -> None:
    network = randomised(Network(read := loads(ATTENTIVE), build(read), threads=1))
    agrees(network, onnx.model(network.graph, dict(network.weights.arrays())), (1, 2, 7))


def test_a_layer_without_counterpart_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "WRITERS", {})
    graph = build(load(EXPORTED[0]))
    with pytest.raises(RunError, match="ONNX has no counterpart of "):
        onnx.model(graph, dict(Weights(graph).arrays()))


def test_lenet_needs_no_more_than_the_first_opset() -> None:
    model = onnx.network_model(compile(SPECS / "lenet.yaml", threads=1), "", raw=True)
    assert [entry.version for entry in model.opset_import] == [onnx_writer.FLOOR]
    assert model.ir_version == 4


@pytest.mark.parametrize("opset", [1, onnx_writer.FLOOR - 1, onnx_writer.NEWEST + 1])
def test_an_opset_that_is_not_written_is_refused(opset: int) -> None:
    with pytest.raises(
        RunError, match=f"expected an opset from {onnx_writer.FLOOR} to {onnx_writer.NEWEST}, got {opset}"
    ):
        onnx.network_model(compile(SPECS / "lenet.yaml", threads=1), "", opset)


def test_an_opset_below_what_the_network_needs_is_refused() -> None:
    text = "cnnspec: 1\ninput: [1, 4, 4]\nlayers: [{type: pad2d, padding: 1, mode: circular}]\n"
    read = loads(text)
    with pytest.raises(RunError, match="needs opset 19 at least, got 18"):
        onnx.model(build(read), {}, 18)


@pytest.fixture(name="prepared")
def _prepared() -> Model:
    return Model(read := loads(PREPARED), build(read), threads=1)


def test_the_preprocessing_is_in_the_model(prepared: Model) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 20, 6), np.uint8)
    found = outputs(onnx.network_model(prepared, ""), images)
    np.testing.assert_allclose(found, prepared.predict(images), rtol=0, atol=1e-6)


def test_raw_models_take_normalised_numbers(prepared: Model) -> None:
    model = onnx.network_model(prepared, "", raw=True)
    assert [entry.name for entry in model.graph.input] == ["input"]
    agrees(prepared, model, (2,))


@pytest.mark.parametrize("raw", [False, True])
def test_values_are_in_the_units_of_the_data(raw: bool) -> None:
    """As `predict` gives them, whatever enters."""
    model = Model(
        read := loads("cnnspec: 1\ninput: [3, 4, 4]\nlayers: [flatten, {type: dense, units: 2}]\n"), build(read)
    )
    model.adopt(Target("values", ("a", "b"), mean=(3.0, -1.0), deviation=(2.0, 0.5)))
    images = np.random.default_rng(0).random((3, 3, 4, 4), np.float32)
    found = outputs(onnx.network_model(model, "", raw=raw), images)
    np.testing.assert_allclose(found, model.predict(images), rtol=0, atol=1e-5)


def test_metadata_and_shapes(prepared: Model) -> None:
    model = onnx.network_model(prepared, "cnnspec: 1\n")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["spec"] == "cnnspec: 1\n"
    assert len(json.loads(properties["labels"])) == 324
    assert properties["input"].startswith("bytes (n, 3, 20, 6): red, green and blue")
    known = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        dimensions = known[node.output[0]].type.tensor_type.shape.dim
        assert dimensions[0].dim_param == "n"
        assert all(dimension.dim_value > 0 for dimension in dimensions[1:])


@pytest.mark.parametrize("spec", [*EXPORTED, RARE], ids=[*(path.stem for path in EXPORTED), "rare"])
def test_every_value_has_its_shape(spec: Path | str) -> None:
    graph = build(loads(spec) if isinstance(spec, str) else load(spec))
    model = onnx.model(graph, dict(Weights(graph).arrays()))
    known = {info.name: info.type.tensor_type.shape.dim for info in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        dimensions = known[node.output[0]]
        assert dimensions[0].dim_param == "n"
        assert all(dimension.dim_value > 0 for dimension in dimensions[1:]), node.output[0]


def test_values_leave_in_the_units_of_the_data() -> None:
    text = PREPARED.replace("layers: [flatten]", "layers: [flatten, {type: dense, units: 2}]").replace("324", "2")
    network = Model(read := loads(text), build(read), threads=1)
    network.target = type(network.target)("values", ("a", "b"), (), (1.0, -20.0), (3.0, 0.5))
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 20, 6), np.uint8)
    expected = network.outputs(network.pipeline.prepared(images)) if network.pipeline else images
    np.testing.assert_allclose(outputs(onnx.network_model(network, ""), images), expected, rtol=1e-5)
