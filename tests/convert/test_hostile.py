"""Damaged and malicious files are refused in words: little memory, nothing half-written, nothing read outside."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.cli import BUG, main
from cnnspec.convert.onnx_conversion import converted
from cnnspec.convert.onnx_file import parse, read
from cnnspec.convert.refusal import ConversionError
from cnnspec.graph import build
from cnnspec.spec import loads
from cnnspec.train.network import Network

onnx = pytest.importorskip("onnx", minversion="1.21")
export = pytest.importorskip("cnnspec.export.onnx")

SPEC = """\
cnnspec: 1
input: [2, 6, 6]
layers:
  - {type: conv2d, filters: 4, kernel_size: 3, padding: same, bias: none}
  - batch_norm
  - {type: gelu, approximate: tanh}
  - {id: a, type: max_pool2d, kernel_size: 2}
  - {type: zero_pad2d, padding: 1}
  - {type: depthwise_conv2d, kernel_size: 3}
  - {type: add, from: [depthwise_conv2d_1, a]}
  - {type: channel_shuffle, groups: 2}
  - {type: layer_norm, over: channels}
  - flatten
  - {type: clip, min: -1, max: 1}
  - {type: dense, units: 3}
  - softmax
"""


def sound() -> Any:
    spec = loads(SPEC)
    network = Network(spec, build(spec), threads=1)
    return export.model(network.graph, dict(network.weights.arrays()))


def attacked(model: Any, random: np.random.Generator) -> bytes:
    """The model with one field, some bytes or its end changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    node = graph.node[int(random.integers(len(graph.node)))]
    tensor = graph.initializer[int(random.integers(len(graph.initializer)))]
    number = int(random.choice([-(2**63), -1, 0, 1, 2, 3, 7, 1000, 2**31, 2**62]))
    kind = int(random.integers(9))
    if kind == 0 and node.attribute:
        attribute = node.attribute[int(random.integers(len(node.attribute)))]
        attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, [number, number]))
    elif kind == 1:
        node.op_type = str(
            random.choice([other.op_type for other in graph.node] + ["Loop", "Expand", "Tile", "Upsample"])
        )
    elif kind == 2 and node.input:
        names = [*(other.output[0] for other in graph.node), *(other.name for other in graph.initializer), "", "?"]
        node.input[int(random.integers(len(node.input)))] = str(random.choice(names))
    elif kind == 3 and tensor.dims:
        tensor.dims[int(random.integers(len(tensor.dims)))] = number
    elif kind == 4:
        tensor.data_type = int(random.integers(0, 24))
    elif kind == 5:
        graph.input[0].type.tensor_type.shape.dim[int(random.integers(4))].dim_value = max(number, -1)
    elif kind == 6:
        del node.input[int(random.integers(len(node.input))) :]
    else:
        content = bytearray(changed.SerializeToString())
        for place in random.integers(0, len(content), int(random.integers(1, 4))):
            content[place] = int(random.integers(256))
        return bytes(content[: int(random.integers(len(content)))] if kind == 8 else content)
    return bytes(changed.SerializeToString())


def attack(seeds: range, folder: Path) -> dict[int, int]:
    """Convert the damaged files of some seeds, and count the exit codes; a failure leaves nothing behind."""
    model, codes = sound(), dict[int, int]()
    file, spec = folder / "net.onnx", folder / "net.yaml"
    for seed in seeds:
        file.write_bytes(attacked(model, np.random.default_rng(seed)))
        code = main(["convert", str(file), "-o", str(spec), "--threads", "1"])
        assert code != BUG, f"seed {seed}"
        codes[code] = codes.get(code, 0) + 1
        left = sorted(path.name for path in folder.iterdir())
        assert left == (["net.npz", "net.onnx", "net.yaml"] if code == 0 else ["net.onnx"]), f"seed {seed}"
        for path in (spec, spec.with_suffix(".npz")):
            path.unlink(missing_ok=True)
    return codes


@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path: Path) -> None:
    codes = attack(range(40), tmp_path)
    assert codes[1] > 15  # most are refused, some changes do no harm


@pytest.mark.slow
@pytest.mark.parametrize("thousand", range(10))
@pytest.mark.filterwarnings("ignore")
def test_many_damaged_files(thousand: int, tmp_path: Path) -> None:
    attack(range(1000 * thousand, 1000 * (thousand + 1)), tmp_path)


HUGE = 1 << 40
BOMBS = {
    "an array": lambda made: made.update(w=onnx.TensorProto(name="w", data_type=1, dims=[HUGE])),
    "ConstantOfShape": lambda made: made["nodes"].append(("ConstantOfShape", ["s"], {})),
    "Expand": lambda made: made["nodes"].append(("Expand", ["one", "s"], {})),
    "Tile": lambda made: made["nodes"].append(("Tile", ["one", "s"], {})),
    "Range": lambda made: made["nodes"].append(("Range", ["zero", "end", "step"], {})),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_little_memory(name: str) -> None:
    arrays = {
        "s": np.array([HUGE]),
        "one": np.ones(1, np.float32),
        "zero": np.float32(0),
        "end": np.float32(HUGE),
        "step": np.float32(1),
    }
    made: dict[str, Any] = {"nodes": []}
    BOMBS[name](made)
    operator, inputs, attributes = made["nodes"][0] if made["nodes"] else ("Identity", ["w"], {})
    tensors = [onnx.numpy_helper.from_array(array, key) for key, array in arrays.items()]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(operator, inputs, ["c"], **attributes),
            onnx.helper.make_node("Add", ["x", "c"], ["y"]),
        ],
        "bomb",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_empty_tensor_value_info("y")],
        [*tensors, *([made["w"]] if "w" in made else [])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError):
            converted(parse(model, Path("bomb.onnx")), "bomb.onnx")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", ["../secret", "link", "/etc/hostname", "", "folder/../../secret"])
def test_arrays_outside_of_the_folder_are_never_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    try:
        os.symlink(tmp_path / "secret", folder / "link")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(ConversionError, match="outside of the file's folder"):
        read(with_external(folder, place))


def test_arrays_in_the_folder_are_read(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(bytes(8) + numbers.tobytes())
    found = read(with_external(tmp_path, "weights.bin", offset="8"))
    np.testing.assert_array_equal(found.constants["w"], numbers)
    with pytest.raises(ConversionError, match="shorter than 28 bytes"):
        read(with_external(tmp_path, "weights.bin", offset="12"))


def with_external(folder: Path, place: str, **more: str) -> Path:
    """A file whose only array is said to be in another file."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": place, **more}.items():
        tensor.external_data.add(key=key, value=value)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_empty_tensor_value_info("y")],
        [tensor],
    )
    path = folder / "net.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "cnnspec: 1\nplugins: [strange.py]\ninput: [2, 6, 6]\nlayers: [relu, flatten]\n",
        "cnnspec: 1\ninput: [2, 100000, 100000]\nlayers: [relu, flatten]\n",
        "cnnspec: 1\ninput: [2, 6, 6]\nlayers: [{id: a, type: dense, units: 100000000}]\n",
        "cnnspec: 1\nextends: /etc/passwd\n",
        "{{{",
    ],
)
def test_a_spec_in_a_file_is_not_trusted(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("strange.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    spec = loads("cnnspec: 1\ninput: [2, 6, 6]\nlayers: [relu, flatten]\n")
    model = export.network_model(Network(spec, build(spec), threads=1), text)
    tracemalloc.start()
    try:
        found = converted(parse(model, Path("net.onnx")), "net.onnx")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert found.text != text
