"""What `export` writes, `convert` reads: equal shapes, as many parameters, equal outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.api import load as load_run
from cnnspec.cli import main
from cnnspec.convert.converted import Converted
from cnnspec.convert.onnx_conversion import converted
from cnnspec.convert.onnx_file import parse
from cnnspec.convert.proof import prove
from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.graph.render import render
from cnnspec.shapes import Shape
from cnnspec.spec import load, loads
from cnnspec.target import Target
from cnnspec.train.network import Network
from tests.compare.test_pytorch import EXPORTED, SMALL, SPECS
from tests.equality.networks import draw
from tests.export.test_numpy_program import CASES, LARGE_SPECS, one_layer, randomised

pytest.importorskip("onnx", minversion="1.21")
from cnnspec.export import onnx, onnx_writer
from tests.samples import sampled

# Layers that come back as others of equal outputs: neighbours that are one, or one that is several.
MERGED = {
    "prelu",
    "scale_shift",
    "square",
    "positions",
    "group_norm",
    "layer_norm",
    "instance_norm",
    "rms_norm",
    "weight_norm",
}

TWO_INPUTS = SPECS / "two-inputs.yaml"
COMPOSED = {"attention", "matmul", "local_response_norm"}  # of several operators, or of values with values


def returned(network: Network, opset: int | None = None) -> Converted:
    """The network, written as ONNX and converted again; the outputs agree."""
    model = onnx.model(network.graph, dict(network.weights.arrays()), opset)
    found = converted(parse(model, Path("net.onnx")), "net.onnx")
    again = compile(found.text, threads=1)
    again.weights.load(found.arrays)
    images = np.random.default_rng(0).random((2, *network.graph.input_shape), np.float32)
    expected = network.outputs(images)
    got = again.outputs(images)
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    with np.errstate(invalid="ignore"):  # of networks whose outputs overflow, both
        np.testing.assert_allclose(got / scale, expected / scale, rtol=0, atol=1e-4)
    return found


@pytest.mark.parametrize("spec", [*sampled(EXPORTED, 4), TWO_INPUTS, *LARGE_SPECS], ids=lambda path: path.stem)
def test_the_zoo(spec: Path) -> None:
    read = load(spec)
    network = randomised(Network(read, build(read), threads=2))
    found = returned(network)
    assert compile(found.text).graph.parameter_count == parameter_count(network)


@pytest.mark.parametrize(("name", "fields", "shapes"), CASES)
def test_every_layer(name: str, fields: Mapping[str, Any], shapes: Sequence[Shape]) -> None:
    read = loads(one_layer(name, fields, shapes))
    found = returned(randomised(Network(read, build(read), threads=1)))
    graph = compile(found.text).graph
    assert name not in COMPOSED or name in {node.layer.type_name for node in graph.nodes}


def test_a_mean_power_of_one_number_changes_no_other_layer() -> None:
    layers = "{type: permute, order: [1, 0, 2]}, {type: lp_pool2d, kernel_size: 1}, {type: lp_pool2d, kernel_size: 2}"
    read = loads(f"cnnspec: 1\ninput: [2, 4, 4]\nlayers: [{layers}]\n")
    found = compile(returned(Network(read, build(read), threads=1)).text)
    assert [node.layer.type_name for node in found.graph.nodes] == ["permute", "abs", "lp_pool2d"]


def parameter_count(network: Network) -> int:
    """The numbers in all parameters that inference reads, tied ones once, whether or not their owner is read too."""
    nodes = remove_dead_nodes(remove_train_only(network.graph.without_losses)).nodes
    sizes = {
        node.keys.get(name, f"{node.name}.{name}"): prod(parameter.shape)
        for node in nodes
        for name, parameter in node.params.items()
    }
    return sum(sizes.values())


def random_graphs(seeds: range, opset: int | None) -> int:
    """How many networks of these seeds came back; ONNX has no counterpart of the others."""
    count = 0
    for seed in seeds:
        setup = draw(seed).setup
        network = randomised(Network(setup.spec, setup.graph, threads=1))
        try:
            found = returned(network, opset)
        except RunError:
            continue
        count += 1
        # attention that shares its weights comes back with weights of its own
        tied = any(node.share and node.layer.type_name == "attention" for node in network.graph.nodes)
        if not tied and not MERGED & {node.layer.type_name for node in network.graph.nodes}:
            assert compile(found.text).graph.parameter_count == parameter_count(network), f"seed {seed}"
    return count


@pytest.mark.parametrize("opset", [None, onnx_writer.NEWEST])
def test_random_graphs(opset: int | None) -> None:
    assert random_graphs(range(12), opset) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("opset", [None, onnx_writer.NEWEST])
def test_many_random_graphs(opset: int | None) -> None:
    assert random_graphs(range(12, 500), opset) >= 400


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("opset", [None, onnx_writer.NEWEST])
@pytest.mark.parametrize(
    "norm", ["batch_norm", "group_norm, groups: 2", "instance_norm", "layer_norm, over: map", "rms_norm"]
)
def test_what_a_norm_adds_comes_back(norm: str, opset: int | None, epsilon: float) -> None:
    """Layers differ in what they add unless it is said."""
    read = loads(f"cnnspec: 1\ninput: [4, 3, 3]\nlayers: [{{type: {norm}, epsilon: {epsilon}}}, tanh, flatten]\n")
    found = compile(returned(Network(read, build(read), threads=1), opset).text)
    assert [node.layer.epsilon for node in found.graph.nodes if hasattr(node.layer, "epsilon")] == [epsilon]


def test_an_output_that_is_reshaped_to_a_map_is_one() -> None:
    read = loads(
        "cnnspec: 1\ninput: [4, 3, 3]\nlayers: [flatten, {type: dense, units: 2}, {type: reshape, shape: [2, 1, 1]}]\n"
    )
    assert compile(returned(Network(read, build(read), threads=1)).text).graph.output.shape == (2, 1, 1)


QUICK = ["lenet", "two-classes", "two-inputs", "unet-shapes"]


@pytest.mark.parametrize(
    "spec",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in SMALL],
    ids=lambda path: path.stem,
)
@pytest.mark.parametrize("raw", [False, True])
def test_an_exported_file_gives_its_spec_back(spec: Path, raw: bool) -> None:
    read = load(spec)
    network = randomised(Network(read, build(read), threads=1))
    text = render(read, network.graph)  # as a run has it
    model = onnx.network_model(network, text, raw=raw)
    found = converted(parse(model, Path("net.onnx")), "net.onnx")
    assert found.text == text
    for name, array in network.weights.arrays():
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize("raw", [False, True])
def test_inputs_of_pixels_come_back(raw: bool) -> None:
    """The file takes bytes, and divides them by 255; the network reads numbers."""
    read = load(TWO_INPUTS)
    network = randomised(Network(read, build(read), threads=1))
    assert network.pipeline is not None
    network.pipeline = replace(network.pipeline, inputs=network.pipeline.inputs.restored(["picture"]))
    text = render(read, network.graph)
    found = converted(parse(onnx.network_model(network, text, raw=raw), Path("net.onnx")), "net.onnx")
    assert found.text == text
    again = compile(found.text, threads=1)
    again.weights.load(found.arrays)
    proof = prove(found, again.outputs)
    assert not isinstance(proof, str)
    assert proof.agrees


def test_what_was_learned_of_the_data_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Predictions of the converted run are those of the exported one, with names and units."""
    text = (
        "cnnspec: 1\ninput: [1, 4, 4]\nlayers: [flatten, {type: dense, units: 3}]\n"
        "data: {source: {type: synthetic, shape: [1, 4, 4], target: values}}\n"
        "train: {epochs: 1, batch_size: 4, loss: mean_squared_error}\n"
    )
    model = compile(text, threads=1)
    model.adopt(Target("values", ("x", "y", "size"), mean=(3.0, -1.0, 0.5), deviation=(2.0, 0.5, 9.0)))
    made = onnx.network_model(model, text)
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    assert main(["convert", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "net.yaml")]) == 0
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4), np.uint8)
    found = load_run(tmp_path / "net.npz", threads=1)
    assert found.target == model.target
    np.testing.assert_array_equal(found.predict(images), model.predict(images))
    for record in (
        "[",
        '{"kind": "values", "mean": [1.0]}',
        '{"kind": 3}',
        "[[1]]",
        '{"kind": "values", "names": [1]}',
    ):
        next(item for item in made.metadata_props if item.key == "learned").value = record
        assert converted(parse(made, Path("net.onnx")), "net.onnx").text != text, record


def test_an_exported_file_that_was_changed_is_converted_as_any_other() -> None:
    text = "cnnspec: 1\ninput: [2, 6, 6]\nlayers: [{id: a, type: conv2d, filters: 3, kernel_size: 3}, relu, flatten]\n"
    read = loads(text)
    model = onnx.network_model(Network(read, build(read), threads=1), text)
    assert converted(parse(model, Path("net.onnx")), "net.onnx").text == text
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Tanh"
    changed = converted(parse(model, Path("net.onnx")), "net.onnx").text
    assert changed != text
    assert "activation: tanh" in changed
