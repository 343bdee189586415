"""The PyTorch source computes what the network computes, with the same weights under PyTorch's own names."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.export.formats import FORMATS, Options, imported
from cnnspec.export.pytorch_layers import WRITERS
from cnnspec.export.pytorch_source import source
from cnnspec.graph import build
from cnnspec.shapes import Shape
from cnnspec.spec import load, loads
from cnnspec.train.network import Network
from tests.compare.test_pytorch import EXPORTED, LARGE, SHARED, SPECS
from tests.export.test_numpy_program import CASES, one_layer, randomised

LARGE_SPECS = [pytest.param(SPECS / f"{name}.yaml", marks=pytest.mark.slow) for name in sorted(LARGE)]
if importlib.util.find_spec("torch") is None:
    pytest.skip("PyTorch is not installed", allow_module_level=True)


def network_of(spec: Path | str) -> Network:
    read = loads(spec) if isinstance(spec, str) else load(spec)
    return randomised(Network(read, build(read), threads=1))


def agrees(network: Network, folder: Path, count: int, tolerance: float) -> Any:
    options = Options(raw=True)
    FORMATS["pytorch"].write(network, folder, "net", options)
    run = FORMATS["pytorch"].runner(folder, "net", options)
    assert run is not None
    images = np.random.default_rng(1).random((count, *network.graph.input_shape)).astype(np.float32)
    expected = network.outputs(images)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(run(images) / scale, expected / scale, rtol=0, atol=tolerance)
    return imported(folder / "net.py")


ONE_OUTPUT = [
    spec for spec in EXPORTED if spec.stem not in ("two-heads", "vae-digits")
]  # of which one alone is written


@pytest.mark.parametrize("spec", [*ONE_OUTPUT, *LARGE_SPECS, SHARED], ids=lambda spec: getattr(spec, "stem", "shared"))
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


def test_what_has_no_counterpart_is_refused() -> None:
    network = network_of("cnnspec: 1\ninput: [4, 6, 6]\nlayers: [{type: attention, heads: 2}, flatten]\n")
    with pytest.raises(RunError, match="no counterpart of attention in PyTorch is known here"):
        source(network, "net", raw=True)


def test_a_run_is_exported_and_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(SPECS / "lenet.yaml"), "--max-steps", "3", "--quiet", "--set", "require={}"]) == 0
    assert main(["export", "runs/lenet", "--format", "pytorch"]) == 0
    told = capsys.readouterr().out
    assert "pytorch: 200 images: largest difference" in told
    assert "the same class for 200 of 200" in told
    assert main(["export", "runs/lenet", "--format", "safetensors", "-o", "weights.safetensors"]) == 0
    tensors = load_file("weights.safetensors")
    module = imported(tmp_path / "lenet.py")
    state = module.Network().state_dict()
    assert state.keys() - tensors.keys() == {"resize_1_down", "resize_1_across"}, "what else there is, prepares images"
    assert all(array.shape == tuple(state[name].shape) for name, array in tensors.items())
    assert [str(digit) for digit in range(10)] == module.CLASSES
    assert main(["export", "runs/lenet", "--format", "safetensors", "--raw", "-o", "x.safetensors"]) == 2
    assert "--raw is for --format onnx or pytorch" in capsys.readouterr().err
