"""Removes from a file what does not depend on the input: constants are folded, identities and casts are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnnspec.convert import quantised
from cnnspec.convert.moved import MovedImages
from cnnspec.convert.onnx_file import OnnxFile, Operator, package
from cnnspec.convert.refusal import MALFORMED, ConversionError, unknown_end
from cnnspec.kernels.step import Array

Lengths = tuple[int, ...]
MOST_FOLDED = 1 << 26  # elements of a computed constant: no weight in a file is larger
SAME_LENGTHS = {"GroupNormalization", "RMSNormalization", "Swish"}  # output has the input's shape, which onnx lacks
# What may be computed of constants alone: results are as large as operands, or their size is checked first.
FOLDABLE = frozenset(
    """
    Abs Add And Cast CastLike Ceil Concat Constant ConstantOfShape Cos DequantizeLinear Div Equal Erf Exp Expand Floor
    Flatten Gather Gemm Greater Identity Less Log MatMul Max Min Mod Mul Neg Not Or Pow QuantizeLinear Range Reciprocal
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Round Shape Sigmoid Sign Sin Size Slice
    Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905  (a table of names)
)
FLOAT32 = np.dtype("float32")
HALF = ("float16", "bfloat16")
SHORT = (10, 16)  # the numbers of these types in onnx
FLOATS = (1, 11, *SHORT)
LEFT_OUT = frozenset({"Cast", "Dropout", "Identity"})  # where they return their input at inference


@dataclass(slots=True)
class Simplified:
    """A simplified file: the operators that depend on the input, the constants, and the shape of every value."""

    entries: tuple[str, ...]
    operators: list[Operator]
    constants: dict[str, Array]
    lengths: dict[str, Lengths]
    output: str
    batch: int
    opset: int
    changes: Counter[str] = field(default_factory=Counter)  # what was done, and how often
    half: bool = False  # whether the file computes with numbers of 16 bits


def cut(file: OnnxFile, until: str | None = None) -> OnnxFile:
    """Return the part of a file that one output needs: operators, and the inputs that they read.

    `until` is the node, or the value, that the network ends with. ConversionError where there is none of that name.
    """
    operators = _operators_up_to(file, until) if until else list(file.operators)
    output = _output(file, operators, until)
    needed = _needed(operators, output)
    read = {output, *(name for operator in needed for name in operator.inputs)}
    entries = tuple(entry for entry in file.entries if entry.name in read)
    return replace(file, operators=tuple(needed), entries=entries or file.entries[:1], outputs=(output,))


def simplified(file: OnnxFile, lengths: Mapping[str, Lengths]) -> Simplified:
    """Fold constants and leave out identities, for inputs of the given shapes, which begin with the batch."""
    work = _Work(file, lengths)
    names: dict[str, str] = {}
    kept = []
    moved = MovedImages(file.opset, work.constants)
    for operator in file.operators:
        operator = replace(operator, inputs=tuple(names.get(name, name) for name in operator.inputs))
        if work.fold(operator):
            continue
        if work.is_identity(operator):
            names[operator.output] = operator.inputs[0]
            continue
        for part in moved.rewritten(operator):
            work.infer(part)
            kept.append(part)
    (output,) = (names.get(name, name) for name in file.outputs)
    return Simplified(
        tuple(lengths),
        _needed(kept, output),
        work.constants,
        work.lengths,
        output,
        next(iter(lengths.values()))[0],
        file.opset,
        work.changes,
        any(not work.half.isdisjoint(operator.inputs) for operator in kept),
    )


def _operators_up_to(file: OnnxFile, until: str) -> list[Operator]:
    for number, operator in enumerate(file.operators, 1):
        if until == operator.name or until in operator.outputs:
            return list(file.operators[:number])
    raise unknown_end(until, [operator.name for operator in file.operators], "node")


def _output(file: OnnxFile, operators: list[Operator], until: str | None) -> str:
    if until is not None:
        last = operators[-1]
        return until if until in last.outputs else last.output
    if len(file.outputs) != 1:
        names = ", ".join(file.outputs) or "none"
        raise ConversionError(
            [f"a converted spec has one output, the file has {len(file.outputs)}: {names}"],
            "name the one that you want: --until NAME",
        )
    return file.outputs[0]


def _needed(operators: list[Operator], output: str) -> list[Operator]:
    wanted, needed = {output}, []
    for operator in reversed(operators):
        if wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            needed.append(operator)
    return needed[::-1]


class _Work:
    """The constants and shapes known while the operators are visited in order."""

    def __init__(self, file: OnnxFile, lengths: Mapping[str, Lengths]) -> None:
        self.opset = file.opset
        self.changes: Counter[str] = Counter()
        self.constants: dict[str, Array] = {}
        self.half = {entry.name for entry in file.entries if entry.dtype.name in HALF}  # values of 16 bits in the file
        for name, array in file.constants.items():
            self.keep(name, array)
        self.lengths: dict[str, Lengths] = dict(lengths)
        kind_of = package().helper.np_dtype_to_tensor_dtype
        self.kinds: dict[str, int] = {
            entry.name: kind_of(FLOAT32 if entry.name in self.half else entry.dtype) for entry in file.entries
        }

    def keep(self, name: str, array: Array) -> None:
        """Keep a constant; numbers of 16 bits become float32."""
        if array.dtype.name in HALF:
            self.changes[f"Array of {array.dtype.name} read as float32"] += 1
            self.half.add(name)
            array = array.astype(FLOAT32)
        self.constants[name] = array

    def fold(self, operator: Operator) -> bool:
        """Compute the outputs of an operator on constants, and return whether it was one; malformed ones are kept."""
        try:
            return operator.type in FOLDABLE and not operator.domain and self._folded(operator)
        except MALFORMED:
            return False

    def _folded(self, operator: Operator) -> bool:
        if operator.type in ("Shape", "Size") and operator.inputs and operator.inputs[0] in self.lengths:
            lengths = np.array(self.lengths[operator.inputs[0]], np.int64)
            start, stop = operator.attributes.get("start", 0), operator.attributes.get("end")
            folded = np.prod(lengths) if operator.type == "Size" else lengths[slice(start, stop)]
            self.constants[operator.output] = np.asarray(folded)
            return True
        if any(name and name not in self.constants for name in operator.inputs):
            return False
        if operator.type == "Constant" and isinstance(operator.attributes.get("value"), np.ndarray):
            self.keep(operator.output, operator.attributes["value"])
            return True
        if operator.type == "ConstantOfShape":
            return self._filled(operator)
        inputs = [self.constants[name] for name in operator.inputs if name]
        if sum(array.size for array in inputs) > MOST_FOLDED or self._size(operator, inputs) > MOST_FOLDED:
            return False
        if not operator.inputs and operator.type != "Constant":
            return False
        results = self._computed(operator)
        if results is None:
            return False
        if operator.type != "Constant":
            self.changes[f"{operator.type} of constants computed"] += 1
        for name, array in zip(operator.outputs, results, strict=False):
            self.keep(name, array)
        return True

    def _filled(self, operator: Operator) -> bool:
        lengths = [int(length) for length in np.ravel(self.constants[operator.inputs[0]])]
        value = np.ravel(operator.attributes.get("value", np.zeros(1, np.float32)))
        if value.size != 1 or min(lengths, default=0) < 0 or len(lengths) > 8:
            return False
        if int(np.prod(np.array(lengths, object))) > MOST_FOLDED * 2:
            return False
        self.constants[operator.output] = np.broadcast_to(value[0], lengths)  # takes no memory
        return True

    def _size(self, operator: Operator, inputs: list[Array]) -> int:
        """Return an upper bound for the number of elements of a result."""
        if operator.type in ("Expand", "Tile"):
            factors = np.ravel(inputs[1]).astype(object)
            return abs(int(np.prod(factors))) * max(inputs[0].size, 1)
        if operator.type == "Range":
            start, stop, step = (float(np.ravel(array)[0]) for array in inputs)
            return (
                int(abs((stop - start) / step)) + 1
                if step and np.isfinite((start, stop, step)).all()
                else MOST_FOLDED + 1
            )
        if operator.type in ("MatMul", "Gemm"):
            return inputs[0].size * max(inputs[1].shape[-1:] or (1,)) if inputs[1].size else 0
        shape = np.ones(1, object)
        try:
            if operator.type not in ("Concat", "Gather", "Split", "Constant", "Reshape", "Unsqueeze"):
                shape = np.array(np.broadcast_shapes(*(array.shape for array in inputs)), object)
        except ValueError:
            pass  # operands that are not combined element by element
        return max(int(np.prod(shape)), sum(array.size for array in inputs))

    def _computed(self, operator: Operator) -> list[Array] | None:
        if operator.type in quantised.COMPUTED:
            inputs = [self.constants[name] for name in operator.inputs if name]
            return [quantised.COMPUTED[operator.type](operator, inputs)]
        onnx = package()
        given = [name for name in dict.fromkeys(operator.inputs) if name]
        graph = onnx.helper.make_graph(
            [node_of(operator)],
            "constant",
            [onnx.helper.make_value_info(name, self._type(name)) for name in given],
            [onnx.helper.make_empty_tensor_value_info(name) for name in operator.outputs],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)])
        try:
            evaluator = onnx.reference.ReferenceEvaluator(model)
            return [np.asarray(array) for array in evaluator.run(None, {name: self.constants[name] for name in given})]
        except Exception:  # whatever the reference implementation raises, the operator stays
            return None

    def is_identity(self, operator: Operator) -> bool:
        """Tell whether an operator returns its input unchanged at inference, so that it can be left out."""
        if operator.domain or not operator.inputs:
            return False
        if operator.type == "Dropout" or (operator.type == "Identity"):
            training = self.constants.get(operator.inputs[2]) if len(operator.inputs) > 2 else None
            if training is not None and bool(np.ravel(training)[:1].any()):
                return False
            self.changes[f"{operator.type} left out"] += 1
            return True
        known = operator.inputs[0] in self.lengths
        if known and operator.type == "Cast" and operator.attributes.get("to") in FLOATS:
            self.changes["Cast left out: numbers are float32 throughout"] += 1
            self.kinds[operator.inputs[0]] = int(package().TensorProto.FLOAT)
            if operator.attributes["to"] in SHORT:
                self.half.add(operator.inputs[0])
            return True
        return False

    def infer(self, operator: Operator) -> None:
        """Find the shapes of an operator's outputs; they stay unknown if onnx cannot infer them."""
        onnx = package()
        try:  # it may find anything in a damaged file
            schema = onnx.defs.get_schema(operator.type, self.opset, operator.domain)
            given = [name for name in operator.inputs if name]
            small = {
                name: onnx.numpy_helper.from_array(np.ascontiguousarray(self.constants[name]), name)
                for name in given
                if name in self.constants and self.constants[name].size <= 64
            }
            types = {name: self._type(name) for name in given if name in self.lengths or name in self.constants}
            opsets = [onnx.helper.make_opsetid("", self.opset)]
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, node_of(operator), types, small, opset_imports=opsets
            )
        except Exception:  # whatever shape inference raises, the lengths stay unknown
            inferred = {}
        if operator.type in SAME_LENGTHS and operator.inputs[0] in self.lengths:
            self.lengths[operator.output] = self.lengths[operator.inputs[0]]
        for name, kind in inferred.items():
            axes = kind.tensor_type.shape.dim
            if kind.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
                self.lengths[name] = tuple(int(axis.dim_value) for axis in axes)
                self.kinds[name] = kind.tensor_type.elem_type

    def _type(self, name: str) -> Any:
        helper = package().helper
        if name in self.constants:
            array = self.constants[name]
            return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        return helper.make_tensor_type_proto(self.kinds.get(name, 1), self.lengths[name])


def node_of(operator: Operator) -> Any:
    """Return the operator as a node of the onnx package."""
    onnx = package()
    attributes: Mapping[str, Any] = {
        name: onnx.numpy_helper.from_array(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        for name, value in operator.attributes.items()
        if value is not None
    }
    return onnx.helper.make_node(operator.type, operator.inputs, operator.outputs, **attributes)
