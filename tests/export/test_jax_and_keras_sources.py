"""The sources for JAX and Keras compute what the network computes, and are proven before they are kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.export.formats import FORMATS, Options, imported
from cnnspec.graph import build
from cnnspec.shapes import Shape
from cnnspec.spec import load, loads
from cnnspec.train.network import Network
from tests.compare.test_pytorch import EXPORTED, SHARED, SPECS
from tests.export.test_numpy_program import CASES, LARGE_SPECS, PREPARED, close, one_layer, randomised
from tests.export.test_pytorch_source import NAMED, TIED

BEYOND = {"jax": "has no words for", "keras": "no counterpart of|Keras has no"}
FRAMEWORKS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not there"))
    for name in ("jax", "keras")
]
pytestmark = [
    pytest.mark.parametrize("framework", FRAMEWORKS),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the frameworks' own
]


def agrees(framework: str, network: Network, folder: Path, count: int, tolerance: float, *, raw: bool = True) -> None:
    options = Options(raw=raw)
    FORMATS[framework].write(network, folder, "net", options)
    run = FORMATS[framework].runner(folder, "net", options)
    if run is None:
        pytest.skip("no backend")
    random = np.random.default_rng(1)
    if raw or network.pipeline is None:
        images = prepared = random.random((count, *network.graph.input_shape), np.float32)
    else:
        images = random.integers(0, 256, (count, *(network.pipeline.shape or network.graph.input_shape)), np.uint8)
        prepared = network.pipeline.prepared(images)
    close(network, prepared, run(images), tolerance)


def network_of(spec: Path | str) -> Network:
    read = loads(spec) if isinstance(spec, str) else load(spec)
    return randomised(Network(read, build(read), threads=1))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [*EXPORTED, *LARGE_SPECS], ids=lambda path: path.stem)
def test_the_zoo(framework: str, spec: Path, tmp_path: Path) -> None:
    try:
        agrees(framework, network_of(spec), tmp_path, 2, 2e-5)
    except RunError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("spec", [SHARED, PREPARED, SPECS / "lenet.yaml"], ids=["shared", "prepared", "lenet"])
def test_some_networks(framework: str, spec: Path | str, tmp_path: Path) -> None:
    agrees(framework, network_of(spec), tmp_path, 9, 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fields", "shapes"), CASES)
def test_every_layer(
    framework: str, name: str, fields: Mapping[str, Any], shapes: Sequence[Shape], tmp_path: Path
) -> None:
    try:
        agrees(framework, network_of(one_layer(name, fields, shapes)), tmp_path, 3, 2e-5)
    except RunError as error:
        pytest.skip(str(error))


def test_no_two_layers_get_one_name(framework: str, tmp_path: Path) -> None:
    """Neither layers that differ in a sign alone, nor those that are called as Keras calls what has no name."""
    agrees(framework, network_of(NAMED), tmp_path, 2, 2e-5)


def test_tied_layers(framework: str, tmp_path: Path) -> None:
    """Running statistics are each layer's own, and the first of the tied layers may be one that none reads."""
    agrees(framework, network_of(TIED), tmp_path, 2, 2e-5)


def test_bytes_enter(framework: str, tmp_path: Path) -> None:
    agrees(framework, network_of(PREPARED), tmp_path, 3, 1e-6, raw=False)


def test_what_has_no_counterpart_is_refused(framework: str, tmp_path: Path) -> None:
    layer = {"jax": "{type: attention, heads: 2}", "keras": "{type: pad2d, padding: 1, mode: replicate}"}[framework]
    network = network_of(f"cnnspec: 1\ninput: [4, 6, 6]\nlayers: [{layer}, flatten]\n")
    with pytest.raises(RunError, match=BEYOND[framework]):
        FORMATS[framework].write(network, tmp_path, "net", Options(raw=True))


@pytest.mark.parametrize(
    "layer",
    [
        "{type: attention, heads: 2}",
        "{type: attention, heads: 4, window: [2, 3], bias: none}",
        "{id: a, type: attention, heads: 1, window: 2}, {type: attention, heads: 1, window: 2, share: a}",
        "{id: a, type: relu}, {type: matmul, from: [a, input], transpose: second}",
        "{id: a, type: relu}, {type: matmul, from: [a, input], transpose: first}",
        "{id: a, type: relu}, {type: tanh, from: input}, {type: reparameterize, from: [a, tanh_1]}",
    ],
)
def test_products_and_noise_in_keras(framework: str, layer: str, tmp_path: Path) -> None:
    if framework == "keras":
        agrees(framework, network_of(f"cnnspec: 1\ninput: [4, 6, 6]\nlayers: [{layer}, flatten]\n"), tmp_path, 3, 2e-5)


def test_a_run_is_exported_and_proven(
    framework: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(SPECS / "lenet.yaml"), "--max-steps", "2", "--quiet", "--set", "require={}"]) == 0
    assert main(["export", "runs/lenet", "--format", framework, "-o", "net.py"]) == 0
    told = capsys.readouterr().out
    assert f"{framework}: 200 images: largest difference" in told
    assert "the same class for 200 of 200" in told
    assert [str(digit) for digit in range(10)] == imported(tmp_path / "net.py").CLASSES
