"""`convert`: a spec and weights that were compared with the file, nothing half-written, nothing overwritten unasked."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import FAILED, USAGE, WRONG_SPEC, main
from cnnspec.convert.operators import TRANSLATORS

onnx = pytest.importorskip("onnx", minversion="1.21")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(*nodes: Any, name: str = "net.onnx", outputs: int = 1, opset: int = 17, kind: int = 1, **arrays: Any) -> Path:
    """A file whose input `x` is n x 2 x 4 x 4, of the type number `kind`, and whose nodes end in `y`."""
    names = ["y", "z"][:outputs]
    graph = onnx.helper.make_graph(
        list(nodes),
        "net",
        [onnx.helper.make_tensor_value_info("x", kind, ["n", 2, 4, 4])],
        [onnx.helper.make_empty_tensor_value_info(name) for name in names],
        [onnx.numpy_helper.from_array(np.asarray(array), key) for key, array in arrays.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    path = Path(name)
    path.write_bytes(model.SerializeToString())
    return path


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs.split(), [output], name=f"{output}_node", **attributes)


def small() -> Path:
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    return saved(
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r"), node("Flatten", "r", "y"), w=weight
    )


def test_spec_and_weights_are_written_and_proven(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(small())]) == 0
    said = capsys.readouterr().out
    assert re.search(r"2 random images in onnx\S+.* and here: largest difference \d", said)
    text = Path("net.yaml").read_text(encoding="utf-8")
    layer = "{id: c_node, type: conv2d, filters: 3, kernel_size: 3, padding: same, bias: none, activation: relu}"
    assert f"  - {layer}\n  - flatten\n" in text
    assert "expect: {params: 54, macs: 864, output: [48]}" in text
    assert main(["validate", "net.yaml"]) == 0
    images = np.random.default_rng(1).normal(size=(3, 2, 4, 4)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator("net.onnx").run(None, {"x": images})[0]
    np.testing.assert_allclose(cnnspec.load("net.npz").predict(images), expected, atol=1e-5)


@pytest.mark.parametrize("opset", [9, 14])
def test_the_proof_of_statistics_without_onnxruntime(
    opset: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    pairs = {"s": (2, 3), "b": (0, 1), "m": (5, -4), "v": (9, 0.25)}
    arrays: dict[str, Any] = {name: np.array(pair, np.float32) for name, pair in pairs.items()}
    saved(node("BatchNormalization", "x s b m v", "n"), node("Flatten", "n", "y"), opset=opset, **arrays)
    assert main(["convert", "net.onnx"]) == 0
    assert "2 random images in onnx's reference and here" in capsys.readouterr().out
    images = np.random.default_rng(1).normal(size=(3, 2, 4, 4)).astype(np.float32)
    each = [array[:, np.newaxis, np.newaxis] for array in arrays.values()]
    expected = each[0] * (images - each[2]) / np.sqrt(each[3] + 1e-5) + each[1]
    np.testing.assert_allclose(cnnspec.load("net.npz").predict(images), expected.reshape(3, -1), atol=1e-5)


def test_bytes_that_the_file_casts() -> None:
    saved(node("Cast", "x", "f", to=1), node("Mul", "f k", "m"), node("Flatten", "m", "y"), kind=2, k=np.float32(0.5))
    assert main(["convert", "net.onnx"]) == 0
    images = np.random.default_rng(1).integers(0, 256, (3, 2, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(cnnspec.load("net.npz").predict(images), images.reshape(3, -1) / 2)


def test_verbs_take_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    matrix = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
    saved(node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("MatMul", "f m", "y"), w=weight, m=matrix)
    assert main(["convert", "net.onnx"]) == 0
    assert main(["eval", "net.npz"]) == FAILED
    assert "net.yaml has no data section" in capsys.readouterr().err
    with Path("net.yaml").open("a", encoding="utf-8") as spec:
        spec.write("data: {source: {type: synthetic, shape: [2, 4, 4], classes: 4, train: 64, test: 20}}\n")
        spec.write("train: {epochs: 1}\n")
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (2, 2, 4, 4), np.uint8))
    capsys.readouterr()
    assert main(["eval", "net.npz"]) == 0
    assert main(["predict", "net.npz", "images.npy"]) == 0
    said = capsys.readouterr().out
    assert "test: 20 images" in said
    assert said.count("images.npy[") == 2
    assert main(["export", "net.npz", "--format", "numpy", "--overwrite"]) == FAILED, "it would replace the weights"
    assert main(["export", "net.npz", "--format", "numpy", "-o", "program.py"]) == 0
    Path("net.yaml").unlink()
    assert main(["export", "net.npz", "--format", "onnx", "-o", "again.onnx"]) == 0


def test_everything_that_cannot_be_said_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(
        node("Erf", "x", "e"), node("Relu", "e", "r"),
        node("AveragePool", "r", "m", kernel_shape=[2, 2], dilations=[2, 2]),
        node("Flatten", "m", "y"),
    )  # fmt: skip
    assert main(["convert", str(path)]) == WRONG_SPEC
    said = capsys.readouterr().err
    assert "e_node (Erf): no layer computes Erf; nearest: gelu" in said
    assert "m_node (AveragePool): its windows have gaps: dilations; nearest: dilations of 1" in said
    assert "r_node" not in said
    assert "y_node" not in said
    assert list(Path().iterdir()) == [path]


def test_until_converts_what_comes_before() -> None:
    path = saved(node("Relu", "x", "r"), node("Erf", "r", "e"), node("Flatten", "e", "y"))
    assert main(["convert", str(path), "--until", "r_node"]) == 0
    assert "  - relu\n" in Path("net.yaml").read_text(encoding="utf-8")


def test_several_outputs_need_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(node("Relu", "x", "y"), node("Tanh", "x", "z"), outputs=2)
    assert main(["convert", str(path)]) == WRONG_SPEC
    assert "--until NAME" in capsys.readouterr().err
    assert main(["convert", str(path), "--until", "z"]) == 0


def test_a_spec_with_names_of_the_file_has_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    weight = np.ones((3, 2, 3, 3), np.float32)
    saved(node("Conv", "x w", "stem"), node("Relu", "stem", "r"), node("Flatten", "r", "y"), w=weight)
    assert main(["convert", "net.onnx"]) == 0
    assert "{id: stem" in Path("net.yaml").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["validate", "net.yaml"]) == 0
    assert "warning" not in capsys.readouterr().out


def test_until_names_a_node_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(small()), "--until", "nothing"]) == WRONG_SPEC
    assert "no node 'nothing'" in capsys.readouterr().err


def test_nothing_is_overwritten_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    path = small()
    Path("net.yaml").write_text("mine", encoding="utf-8")
    assert main(["convert", str(path)]) == FAILED
    assert "net.yaml exists" in capsys.readouterr().err
    assert Path("net.yaml").read_text(encoding="utf-8") == "mine"
    assert main(["convert", str(path), "--overwrite"]) == 0
    assert main(["convert", str(path), "-o", "net.txt"]) == USAGE


def test_what_does_not_agree_is_not_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(TRANSLATORS, "Relu", TRANSLATORS["Tanh"])
    path = small()
    assert main(["convert", str(path)]) == FAILED
    assert "nothing was written" in capsys.readouterr().err
    assert list(Path().iterdir()) == [path]


def test_an_open_size_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    path = small()
    model = onnx.load(path)
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "size"
    onnx.save(model, path)
    assert main(["convert", str(path)]) == WRONG_SPEC
    assert "--input 3,224,224" in capsys.readouterr().err
    assert main(["convert", str(path), "--input", "2,4,4"]) == 0
    assert main(["convert", str(path), "--input", "3,4,4", "--overwrite"]) == WRONG_SPEC


def test_what_was_changed_is_said() -> None:
    nodes = [node("Dropout", "x", "d"), node("Identity", "d", "i"), node("Flatten", "i", "f")]
    nodes += [node("MatMul", "f w", "m"), node("Add", "m b", "y")]
    path = saved(*nodes, w=np.eye(32, 3, dtype=np.float32), b=np.arange(3, dtype=np.float32))
    assert main(["convert", str(path)]) == 0
    text = Path("net.yaml").read_text(encoding="utf-8")
    assert "# Dropout left out.\n# Identity left out.\n" in text
    assert "  # Add is its bias\n" in text


@pytest.mark.filterwarnings("ignore")
def test_the_recipe_for_pytorch() -> None:
    pytest.importorskip("torch")
    page = files("cnnspec").joinpath("guide", "convert.md").read_text(encoding="utf-8")
    (recipe,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "torch" in code)
    names: dict[str, Any] = {}
    exec(compile(recipe, "guide/convert.md", "exec"), names)
    (command,) = re.findall(r"cnnspec (convert small.*)", page)
    assert main(command.split()) == 0
    torch, images = names["torch"], np.random.default_rng(0).normal(size=(2, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        expected = names["network"](torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(cnnspec.load("small.npz").predict(images), expected, atol=1e-5)
