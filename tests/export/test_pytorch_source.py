"""The PyTorch source computes what the network computes, with the same weights under PyTorch's own names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.export.formats import FORMATS, Options, imported
from cnnspec.export.pytorch_layers import WRITERS
from cnnspec.export.pytorch_source import source
from cnnspec.graph import build
from cnnspec.shapes import Shape
from cnnspec.spec import load, loads
from cnnspec.target import Target
from cnnspec.train.network import Network
from cnnspec.train.transfer import transfer
from tests.compare.test_pytorch import EXPORTED, LARGE, SHARED, SPECS
from tests.export.test_numpy_program import CASES, PREPARED, close, one_layer, randomised

LARGE_SPECS = [pytest.param(SPECS / f"{name}.yaml", marks=pytest.mark.slow) for name in sorted(LARGE)]
if importlib.util.find_spec("torch") is None:
    pytest.skip("PyTorch is not installed", allow_module_level=True)


def network_of(spec: Path | str) -> Network:
    read = loads(spec) if isinstance(spec, str) else load(spec)
    return randomised(Network(read, build(read), threads=1))


NAMED = """\
cnnspec: 1
input: [2, 8, 8]
blocks:
  a:
    layers: [{id: b, type: conv2d, filters: 3, kernel_size: 3}]
layers:
  - {id: a, use: a}
  - {id: a_b, type: conv2d, filters: 3, kernel_size: 1}
  - {id: train, type: separable_conv2d, filters: 3, kernel_size: 3}
  - {id: input_layer, type: batch_norm}
  - {id: place, type: positions}
  - {id: relu, type: scale_shift, scale: 2}
  - relu
  - {id: forward, type: conv2d, filters: 2, kernel_size: 1, activation: relu}
  - {id: type, type: dropout, rate: 0.5}
  - {id: flatten, type: prelu}
  - flatten
  - {id: eval, type: dense, units: 5}
"""
NAMES = ["a_b_", "a_b", "train_", "input_layer", "relu", "forward_", "type_", "flatten", "eval_"]
TIED = """\
cnnspec: 1
input: [2, 8, 8]
layers:
  - {id: a, type: conv2d, filters: 2, kernel_size: 3, padding: same}
  - {id: b, type: conv2d, filters: 2, kernel_size: 3, padding: same, share: a, from: input}
  - {id: first, type: batch_norm}
  - {id: second, type: batch_norm, share: first}
  - {id: p, type: positions}
  - {type: positions, share: p}
  - flatten
"""


def agrees(network: Network, folder: Path, count: int, tolerance: float) -> Any:
    options = Options(raw=True)
    FORMATS["pytorch"].write(network, folder, "net", options)
    run = FORMATS["pytorch"].runner(folder, "net", options)
    assert run is not None
    images = np.random.default_rng(1).random((count, *network.graph.input_shape)).astype(np.float32)
    close(network, images, run(images), tolerance)
    return imported(folder / "net.py")


@pytest.mark.parametrize("spec", [*EXPORTED, *LARGE_SPECS, SHARED], ids=lambda spec: getattr(spec, "stem", "shared"))
def test_the_zoo(spec: Path | str, tmp_path: Path) -> None:
    network = network_of(spec)
    module = agrees(network, tmp_path, 2, 2e-5)
    assert sum(array.numel() for array in module.Network().parameters()) == network.graph.parameter_count


@pytest.mark.parametrize(
    ("name", "fields", "shapes"), [case for case in CASES if case.values[0] in {*WRITERS, "weight_norm"}]
)
def test_every_layer(name: str, fields: Mapping[str, Any], shapes: Sequence[Shape], tmp_path: Path) -> None:
    network = network_of(one_layer(name, fields, shapes))
    if fields.get("bias") == "untied" or (name == "local_response_norm" and fields.get("size", 5) % 2 == 0):
        with pytest.raises(RunError, match="PyTorch"):
            source(network, "net", raw=True)
        return
    agrees(network, tmp_path, 3, 2e-5)


def test_means_count_padding_but_not_what_hangs_over_it(tmp_path: Path) -> None:
    fields = "kernel_size: 3, stride: 2, padding: 1, ceil_mode: true, count_include_pad: true"
    spec = f"cnnspec: 1\ninput: [2, 6, 6]\nlayers: [{{type: avg_pool2d, {fields}}}]\n"
    agrees(network_of(spec), tmp_path, 3, 2e-5)


def test_no_two_layers_get_one_name(tmp_path: Path) -> None:
    """Neither layers that differ in a sign alone, nor those that are called as something of the module's own."""
    network = network_of(NAMED)
    module = agrees(network, tmp_path, 2, 2e-5)
    assert [name for name, _ in module.Network().named_children()] == NAMES


def test_weights_under_pytorchs_names_come_back(tmp_path: Path) -> None:
    network = network_of(NAMED)
    FORMATS["safetensors"].write(network, tmp_path, "net", Options())
    there = network_of(f"{NAMED}train: {{epochs: 1, batch_size: 2, init: {{from: {tmp_path / 'net.safetensors'}}}}}\n")
    found = transfer(there)
    assert found is not None
    assert not found.fresh
    taken = dict(there.weights.arrays())
    for name, array in network.weights.arrays():
        np.testing.assert_array_equal(taken[name], array, err_msg=name)


def test_labels_beside_the_weights_are_those_of_every_format(tmp_path: Path) -> None:
    """Names that the target states stand there too, where images have none of classes."""
    network = network_of(PREPARED)
    assert network.pipeline is not None
    network.pipeline = replace(network.pipeline, classes=())
    network.target = Target("values", ("width", "height"))
    FORMATS["safetensors"].write(network, tmp_path, "net", Options())
    with safe_open(tmp_path / "net.safetensors", "np") as file:
        assert json.loads(file.metadata()["labels"]) == ["width", "height"]


def test_tied_layers(tmp_path: Path) -> None:
    """Running statistics are each layer's own, and the first of the layers that are tied may be one that none reads."""
    module = agrees(network_of(TIED), tmp_path, 3, 2e-5).Network()
    assert module.second.weight is module.first.weight
    assert module.second.running_mean is not module.first.running_mean


def test_what_has_no_counterpart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(WRITERS, "tanh")
    network = network_of("cnnspec: 1\ninput: [4, 6, 6]\nlayers: [tanh, flatten]\n")
    with pytest.raises(RunError, match="no counterpart of tanh in PyTorch is known here"):
        source(network, "net", raw=True)


def test_a_run_is_exported_and_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(SPECS / "lenet.yaml"), "--max-steps", "3", "--quiet", "--set", "require={}"]) == 0
    assert main(["export", "runs/lenet", "--format", "pytorch"]) == 0
    told = capsys.readouterr().out
    assert "pytorch: 200 images: largest difference" in told
    assert "the same class for 200 of 200" in told
    assert main(["export", "runs/lenet", "--format", "safetensors", "-o", "weights.safetensors"]) == 0
    Path("other").touch()
    assert Path("weights.safetensors").stat().st_mode == Path("other").stat().st_mode
    tensors = load_file("weights.safetensors")
    module = imported(tmp_path / "lenet.py")
    state = module.Network().state_dict()
    assert state.keys() - tensors.keys() == {"resize_1_down", "resize_1_across"}, "what else there is, prepares images"
    assert all(array.shape == tuple(state[name].shape) for name, array in tensors.items())
    assert [str(digit) for digit in range(10)] == module.CLASSES
    assert main(["export", "runs/lenet", "--format", "safetensors", "--raw", "-o", "x.safetensors"]) == 2
    assert "--raw is for --format onnx or pytorch" in capsys.readouterr().err
