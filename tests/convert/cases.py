"""The onnx wheel's own tests of operators, each as a network with one input: model, images, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from cnnspec.convert.operators import TRANSLATORS
from cnnspec.kernels.step import Array

onnx = pytest.importorskip("onnx", minversion="1.21")
loader = pytest.importorskip("onnx.backend.test.loader")

MERGING = {"Add", "Concat", "Max", "Mean", "Min", "Mul", "Sub", "Sum"}
LEFT_OUT = {"Identity", "Cast", "Dropout"}


class Case(NamedTuple):
    """One test of the wheel; inputs behind the first are constants, or parts of the one input where they merge."""

    name: str
    model: Any
    images: Array
    expected: Array


def cases(kind: str) -> Iterator[Case]:
    """The cases of a kind with numbers of float32, one output, and of node tests the operators that convert knows."""
    for test in loader.load_model_tests(kind=kind):
        model, (inputs, outputs) = (test.model, test.data_sets[0]) if test.model else _stored(Path(test.model_dir))
        nodes = model.graph.node
        if kind == "node" and (len(nodes) != 1 or nodes[0].op_type not in {*TRANSLATORS, *LEFT_OUT}):
            continue
        arrays = [*inputs, *outputs]
        if len(outputs) != 1 or not inputs or any(not isinstance(array, np.ndarray) for array in arrays):
            continue
        if inputs[0].dtype == outputs[0].dtype == np.float32 and "3d" not in test.name.lower().replace("_3d_", "_"):
            yield Case(test.name, *_with_one_input(model, inputs), outputs[0])


def _stored(folder: Path) -> tuple[Any, tuple[list[Array], list[Array]]]:
    def arrays(pattern: str) -> list[Array]:
        paths = sorted((folder / "test_data_set_0").glob(pattern))
        return [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())) for path in paths]

    return onnx.load(folder / "model.onnx"), (arrays("input_*.pb"), arrays("output_*.pb"))


def _with_one_input(model: Any, inputs: list[Array]) -> tuple[Any, Array]:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    names = [info.name for info in made.graph.input]
    free = [name for name in names if name not in {tensor.name for tensor in made.graph.initializer}]
    given = dict(zip(names if len(inputs) == len(names) else free, inputs, strict=False))
    merges = len(made.graph.node) == 1 and made.graph.node[0].op_type in MERGING
    if merges and len(free) > 1 and len({given[name].shape for name in free}) == 1:
        return _joined(made, [given[name] for name in free], free)
    for name in free[1:]:
        made.graph.initializer.append(onnx.numpy_helper.from_array(given[name], name))
    return made, given[free[0]]


def _joined(model: Any, inputs: list[Array], names: list[str]) -> tuple[Any, Array]:
    """All inputs as columns of one, which the model cuts apart."""
    images = np.stack([array.reshape(len(array), -1) for array in inputs], 1)
    nodes = list(model.graph.node)
    del model.graph.input[:], model.graph.node[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("joined", 1, images.shape))
    opset = next(item.version for item in model.opset_import if not item.domain)
    for place, (name, array) in enumerate(zip(names, inputs, strict=True)):
        cut = {"starts": [place], "ends": [place + 1], "axes": [1]}
        arrays = {f"{key}_{place}": np.array(value) for key, value in cut.items()}
        arrays |= {f"shape_{place}": np.array(array.shape)}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in arrays.items())
        places = [f"{key}_{place}" for key in cut] if opset >= 10 else []
        cut_off = onnx.helper.make_node("Slice", ["joined", *places], [f"{name}_row"], **({} if places else cut))
        model.graph.node.extend([cut_off, onnx.helper.make_node("Reshape", [f"{name}_row", f"shape_{place}"], [name])])
    model.graph.node.extend(nodes)
    return model, images
