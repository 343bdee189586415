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
pytest.importorskip("onnx.reference")

MERGING = {"Add", "Concat", "Max", "Mean", "Min", "Mul", "Sub", "Sum"}
FLOATS = (np.float32, np.float64)
LEFT_OUT = {"Identity", "Cast", "Dropout"}


class Case(NamedTuple):
    """One test of the wheel; inputs behind the first are constants, or parts of the one input where they merge."""

    name: str
    model: Any
    images: Array
    expected: Array


def cases(kind: str) -> Iterator[Case]:
    """The cases of a kind with floating-point numbers, one output, and of node tests operators that convert knows."""
    for test in loader.load_model_tests(kind=kind):
        model, (inputs, outputs) = (test.model, test.data_sets[0]) if test.model else _stored(Path(test.model_dir))
        nodes = model.graph.node
        if kind == "node" and (len(nodes) != 1 or nodes[0].op_type not in {*TRANSLATORS, *LEFT_OUT}):
            continue
        arrays = [*inputs, *outputs]
        if len(outputs) != 1 or not inputs or any(not isinstance(array, np.ndarray) for array in arrays):
            continue
        if inputs[0].dtype == outputs[0].dtype == np.float64:
            inputs, outputs = _anew(model, inputs)
        if (
            inputs[0].dtype == outputs[0].dtype
            and inputs[0].dtype in FLOATS
            and "3d" not in test.name.lower().replace("_3d_", "_")
        ):
            yield Case(test.name, *_with_one_input(model, inputs), outputs[0])


def _anew(model: Any, inputs: list[Array]) -> tuple[list[Array], list[Array]]:
    """Random inputs, and what the onnx package's reference makes of them: those stored are memory that nobody set."""
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(array.shape) for array in inputs]
    names = [info.name for info in model.graph.input]
    found = onnx.reference.ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=False)))
    return inputs, [np.asarray(array) for array in found]


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
    first = given[free[0]]
    together = [free[0], *(name for name in free[1:] if _of_every_image(made, name, given[name], first))]
    for name in free[1:]:
        if name not in together:
            made.graph.initializer.append(onnx.numpy_helper.from_array(given[name], name))
    return _joined(made, [given[name] for name in together], together) if len(together) > 1 else (made, first)


def _of_every_image(model: Any, name: str, array: Array, first: Array) -> bool:
    """Whether an input has numbers for each image and is only merged with others, so that it may be part of one."""
    kinds = {node.op_type for node in model.graph.node if name in node.input}
    whole = array.shape == first.shape
    return kinds <= MERGING and (whole or (array.shape[:1] == first.shape[:1] != (1,) and array.ndim == first.ndim))


def _joined(model: Any, inputs: list[Array], names: list[str]) -> tuple[Any, Array]:
    """All inputs as columns of one, which the model cuts apart."""
    rows = [array.reshape(len(array), -1) for array in inputs]
    images, ends = np.concatenate(rows, 1), np.cumsum([0, *(len(row[0]) for row in rows)]).tolist()
    nodes = list(model.graph.node)
    del model.graph.input[:], model.graph.node[:]
    kind = onnx.helper.np_dtype_to_tensor_dtype(images.dtype)
    model.graph.input.append(onnx.helper.make_tensor_value_info("joined", kind, images.shape))
    opset = next(item.version for item in model.opset_import if not item.domain)
    for place, (name, array) in enumerate(zip(names, inputs, strict=True)):
        cut = {"starts": [ends[place]], "ends": [ends[place + 1]], "axes": [1]}
        arrays = {f"{key}_{place}": np.array(value) for key, value in cut.items()}
        arrays |= {f"shape_{place}": np.array(array.shape)}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in arrays.items())
        places = [f"{key}_{place}" for key in cut] if opset >= 10 else []
        cut_off = onnx.helper.make_node("Slice", ["joined", *places], [f"{name}_row"], **({} if places else cut))
        model.graph.node.extend([cut_off, onnx.helper.make_node("Reshape", [f"{name}_row", f"shape_{place}"], [name])])
    model.graph.node.extend(nodes)
    return model, images
