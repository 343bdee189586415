"""The NumPy program computes what the network computes, from the same bytes, and needs nothing but NumPy."""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model, compile
from cnnspec.diagnostics import RunError
from cnnspec.export import numpy_layers, numpy_program
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer
from cnnspec.shapes import Shape
from cnnspec.spec import load, loads
from cnnspec.train.network import Network
from tests.compare.test_pytorch import EXPORTED, LARGE, RARE, SHARED, SPECS
from tests.layers.draws import new
from tests.layers.examples import EXAMPLES

LARGE_SPECS = [pytest.param(SPECS / f"{name}.yaml", marks=pytest.mark.slow) for name in sorted(LARGE)]


def written(network: Network, folder: Path, name: str = "net") -> Any:
    """The program as a module, imported from a folder."""
    text, arrays = numpy_program.program(network, name)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomised(network: Network) -> Network:
    """The network with statistics and small parameters as no initializer leaves them."""
    random = np.random.default_rng(0)
    for array in network.weights.state.values():
        array[...] = random.uniform(0.5, 1.5, array.shape)
    for key, array in network.weights.params.items():
        if not key.endswith("weight"):
            array += random.normal(0, 0.1, array.shape)
    return network


def agrees(network: Network, folder: Path, count: int, tolerance: float) -> None:
    images = np.random.default_rng(1).random((count, *network.graph.input_shape)).astype(network.weights.values.dtype)
    close(network, images, written(network, folder).network(images), tolerance, same_type=True)


def close(network: Network, images: Array, found: Any, tolerance: float, *, same_type: bool = False) -> None:
    """Each output of a program, by name if there are several, is that of the network."""
    expected = network.outputs_by_name(images) if network.output_names else {"": network.outputs(images)}
    by_name = found if isinstance(found, Mapping) else {"": found}
    assert by_name.keys() == expected.keys()
    for name, output in expected.items():
        assert not same_type or by_name[name].dtype == output.dtype
        scale = max(1.0, float(np.abs(output).max()))
        np.testing.assert_allclose(by_name[name] / scale, output / scale, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("spec", [*EXPORTED, *LARGE_SPECS], ids=lambda path: path.stem)
def test_the_zoo(spec: Path, tmp_path: Path) -> None:
    read = load(spec)
    agrees(randomised(Network(read, build(read), threads=1)), tmp_path, 2, 1e-5)


@pytest.mark.parametrize("spec", [*EXPORTED, RARE, SHARED], ids=[*(path.stem for path in EXPORTED), "rare", "shared"])
def test_formulas_are_the_same_to_the_last_digits(spec: Path | str, tmp_path: Path) -> None:
    read = loads(spec) if isinstance(spec, str) else load(spec)
    agrees(randomised(Network(read, build(read), threads=1, dtype="float64")), tmp_path, 3, 1e-10)


def fields_as_yaml(fields: Mapping[str, Any]) -> str:
    return "".join(f", {name}: {_yaml(value)}" for name, value in fields.items())


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


CASES = [
    pytest.param(name, fields, shapes, id=f"{name}-{position}")
    for name, examples in EXAMPLES.items()
    for position, (fields, shapes) in enumerate(examples)
]


def one_layer(name: str, fields: Mapping[str, Any], shapes: Sequence[Shape]) -> str:
    """A spec of one layer; its inputs are parts of the network's, each in its shape."""
    total = sum(prod(shape) for shape in shapes)
    layers, start = [f"{{id: all, type: reshape, shape: [{total}, 1, 1]}}"], 0
    for i, shape in enumerate(shapes):
        stop = start + prod(shape)
        layers.append(f"{{id: part{i}, type: slice, from: all, channels: {{start: {start}, stop: {stop}}}}}")
        layers.append(f"{{id: x{i}, type: reshape, shape: {list(shape)}}}")
        start = stop
    inputs = ", ".join(f"x{i}" for i in range(len(shapes)))
    layers.append(f"{{type: {name}{fields_as_yaml(fields)}, from: {inputs if len(shapes) == 1 else f'[{inputs}]'}}}")
    return f"cnnspec: 1\ninput: [1, {total}, 1]\nlayers: [{', '.join(layers)}]\n"


@pytest.mark.parametrize(("name", "fields", "shapes"), CASES)
def test_every_layer(name: str, fields: Mapping[str, Any], shapes: Sequence[Shape], tmp_path: Path) -> None:
    layer: Layer = new(name, **fields)
    read = loads(one_layer(name, fields, shapes))
    network = randomised(Network(read, build(read), threads=1, dtype="float64"))
    if layer.train_only or name in {*numpy_layers.WRITERS, "weight_norm"}:
        agrees(network, tmp_path, 2, 1e-10)
    else:
        with pytest.raises(RunError, match=name):
            numpy_program.program(network, "net")


@pytest.fixture(name="lenet", scope="module")
def _lenet() -> Model:
    model = compile(SPECS / "lenet.yaml", ["train.epochs=1"], threads=1)
    model.fit()
    return model


def test_lenet_is_short(lenet: Model) -> None:
    text, _ = numpy_program.program(lenet, "lenet")
    assert len(text.splitlines()) < 150
    assert max(map(len, text.splitlines())) <= 120


def test_bytes_enter_as_in_training(lenet: Model, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)
    module = written(lenet, tmp_path)
    expected = lenet.predict(images)
    found, scale = module.network(module.prepare(images)), abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-6)


PREPARED = """\
cnnspec: 1
input: [3, 12, 9]
layers: [flatten]
data:
  source: {type: synthetic, shape: [3, 20, 6], classes: 324, train: 400, test: 20}
  preprocess:
    - {type: resize, size: [7, 8]}
    - {type: pad, padding: [2, 3, 0, 1], value: 7}
    - {type: scale, minimum: -1}
    - {type: normalize, mean: [0.1, 0.2, 0.3], std: [0.5, 0.25, 1]}
"""


def test_every_step_of_the_pipeline_is_in_it(tmp_path: Path) -> None:
    model = Model(read := loads(PREPARED), build(read), threads=1)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 20, 6), np.uint8)
    module = written(model, tmp_path)
    np.testing.assert_array_equal(module.network(module.prepare(images)), model.predict(images))


def pictures(folder: Path) -> list[Path]:
    """One picture of each kind that people have."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    colour = image.fromarray(random.integers(0, 256, (30, 20, 4), np.uint8))
    made = {
        "grey.png": colour.convert("L"),
        "rgb.png": colour.convert("RGB"),
        "alpha.png": colour,
        "grey-alpha.png": colour.convert("LA"),
        "palette.png": colour.convert("RGB").convert("P"),
        "bilevel.png": colour.convert("1"),
        "sixteen.png": image.fromarray(random.integers(0, 65536, (30, 20)).astype(np.uint16)),
        "cmyk.tif": colour.convert("RGB").convert("CMYK"),
    }
    for name, picture in made.items():
        picture.save(folder / name)
    exif = made["rgb.png"].getexif()
    exif[0x0112] = 6
    made["rgb.png"].save(folder / "turned.png", exif=exif)
    return [*(folder / name for name in made), folder / "turned.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_enter_as_in_prediction(channels: int, tmp_path: Path) -> None:
    text = PREPARED.replace("[3, 20, 6]", f"[{channels}, 20, 6]").replace("[3, 12, 9]", f"[{channels}, 12, 9]")
    text = text.replace("324", str(channels * 108)).replace("[0.1, 0.2, 0.3]", "0.1").replace("[0.5, 0.25, 1]", "2")
    model = Model(read := loads(text), build(read), threads=1)
    module = written(model, tmp_path)
    assert model.pipeline is not None
    for path in pictures(tmp_path):
        expected, _ = model.pipeline.picture(path)
        scale, shift = (values.reshape(-1, 1, 1) for values in model.pipeline.affine)
        found = module.prepare(module.read(str(path)))
        np.testing.assert_array_equal(found, expected * scale + shift, err_msg=path.name)


WITHOUT_CNNSPEC = """
import runpy, sys
sys.modules["cnnspec"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program in a Python that cannot import cnnspec."""
    command = [sys.executable, "-c", WITHOUT_CNNSPEC, "net.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_it_answers_without_cnnspec(lenet: Model, tmp_path: Path) -> None:
    written(lenet, tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), np.uint8)
    np.save(tmp_path / "two.npy", images)
    answered = run(tmp_path, "two.npy")
    assert answered.returncode == 0, answered.stderr
    best = lenet.predict(images).argmax(1).tolist()
    assert [line.split()[:2] for line in answered.stdout.splitlines()] == [["two.npy:", str(i)] for i in best]


def test_a_wrong_array_is_one_line(lenet: Model, tmp_path: Path) -> None:
    written(lenet, tmp_path)
    np.save(tmp_path / "wrong.npy", np.zeros((3, 9, 9), np.uint8))
    answered = run(tmp_path, "wrong.npy")
    assert answered.returncode == 1
    assert answered.stderr == "wrong.npy: expected bytes (uint8) (n, 1, 8, 8), got uint8 (3, 9, 9)\n"
    assert run(tmp_path).stderr == "usage: python net.py PICTURE_OR_NPY ...\n"


@pytest.mark.parametrize("name", ["none.npy", "none.png", "damaged.npy", "damaged.png"])
def test_a_file_that_cannot_be_read_is_one_line(name: str, lenet: Model, tmp_path: Path, monkeypatch: Any) -> None:
    written(lenet, tmp_path)
    for damaged in ("damaged.npy", "damaged.png"):
        (tmp_path / damaged).write_bytes(b"nothing")
    monkeypatch.setattr(sys, "argv", ["net.py", str(tmp_path / name)])
    with pytest.raises(SystemExit, match=f"cannot read .*{name}: "):
        runpy.run_path(str(tmp_path / "net.py"), run_name="__main__")


def test_a_picture_without_pillow_is_one_line(lenet: Model, tmp_path: Path, monkeypatch: Any) -> None:
    written(lenet, tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(sys, "argv", ["net.py", "digit.png"])
    with pytest.raises(SystemExit, match=r"cannot read digit\.png: .*PIL.*, part of Pillow"):
        runpy.run_path(str(tmp_path / "net.py"), run_name="__main__")


ANSWERS = {
    "several-labels": "no label|%",
    "two-classes": "%",
    "unet-shapes": "%",
    "autoencoder": "output of shape",
    "soft-labels": "%",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_every_kind(name: str, tmp_path: Path) -> None:
    model = compile(SPECS / f"{name}.yaml", threads=1)
    module = written(model, tmp_path)
    images: Array = np.random.default_rng(0).random((1, *model.graph.input_shape), np.float32)
    said = module.answer(module.network(images)[0])
    assert any(word in said for word in ANSWERS[name].split("|")), said
