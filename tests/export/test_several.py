"""Several inputs and outputs leave by their names, in every format, with the units and the bytes of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import main
from cnnspec.export.formats import FORMATS, Options, imported

SPEC = """\
cnnspec: 1
inputs: {picture: [2, 6, 5], age-in-years: [3]}
layers:
  - {type: conv2d, filters: 3, kernel_size: 3, activation: relu}
  - flatten
  - {id: seen, type: dense, units: 4, activation: tanh}
  - {id: known, type: dense, units: 4, from: age-in-years}
  - {type: concat, from: [seen, known]}
  - {id: both, type: dropout, rate: 0.5}
  - {id: kind, type: dense, units: 3}
  - {id: size, type: dense, units: 2, from: both}
data:
  source: {type: npz, train: data.npz, test: data.npz, target: {kind: class, lengths: values}}
train:
  epochs: 1
  batch_size: 8
  losses:
    kind: {layer: kind, loss: softmax_cross_entropy}
    lengths: {layer: size, loss: mean_squared_error}
"""
COUNT = 20


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "picture": random.integers(0, 256, (COUNT, 2, 6, 5), np.uint8),
        "age-in-years": random.normal(0, 1, (COUNT, 3)).astype(np.float32),
        "kind": np.arange(COUNT) % 3,
        "lengths": random.normal([100, -5], [20, 0.1], (COUNT, 2)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def run(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    np.savez(folder / "data.npz", **arrays)
    (folder / "net.yaml").write_text(SPEC, encoding="utf-8")
    assert main(["train", str(folder / "net.yaml"), "--out", str(folder / "runs"), "--quiet"]) == 0
    return folder / "runs" / "net"


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "safetensors"])
def test_outputs_are_those_that_predict_gives(format: str, run: Path, arrays: dict[str, Any], tmp_path: Path) -> None:
    model = cnnspec.load(run, threads=1)
    given = {name: arrays[name] for name in model.spec.inputs}
    expected = model.predict(given)
    FORMATS[format].write(model, tmp_path, "net", Options())
    exported = FORMATS[format].runner(tmp_path, "net", Options())
    if exported is None:
        pytest.skip(FORMATS[format].unrun)
    found = exported(given)
    assert isinstance(found, dict)
    assert found.keys() == expected.keys() == {"kind", "lengths"}
    assert abs(expected["lengths"].mean(axis=0)[0] - 100) < 30, "in the units of the data"
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, rtol=1e-5, atol=1e-5)


def test_the_program_reads_arrays_by_name(run: Path, arrays: dict[str, Any], tmp_path: Path) -> None:
    model = cnnspec.load(run, threads=1)
    FORMATS["numpy"].write(model, tmp_path, "net", Options())
    program = imported(tmp_path / "net.py")
    np.savez(tmp_path / "two.npz", **{name: arrays[name][:2] for name in model.spec.inputs})
    said = [
        program.answer(output)
        for output in program.each(program.network(program.prepare(program.read(str(tmp_path / "two.npz")))))
    ]
    values = model.predict({name: arrays[name][:2] for name in model.spec.inputs})["lengths"]
    assert [line.split("lengths: ")[1] for line in said] == [f"0 {a:.6g}  1 {b:.6g}" for a, b in values]
    np.savez(tmp_path / "half.npz", picture=arrays["picture"] / 255)
    with pytest.raises(SystemExit, match=r"expected picture, bytes \(uint8\) \(n, 2, 6, 5\), got float64"):
        program.read(str(tmp_path / "half.npz"))


@pytest.mark.parametrize("raw", [[], ["--raw"]])
def test_the_verb_proves_each_output(raw: list[str], run: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = str(tmp_path / "net.onnx")
    assert main(["export", str(run), "--format", "onnx", "-o", path, *raw]) == 0
    told = capsys.readouterr().out
    assert "onnx: kind: 20 images: largest difference" in told
    assert "onnx: lengths: 20 images: largest difference" in told
    graph = onnx.load(path).graph
    assert [entry.name for entry in graph.input] == ["picture", "age-in-years"]
    assert [output.name for output in graph.output] == ["kind", "lengths"]
