"""Reads an ONNX file as operators and constants, within size limits, without interpreting the operators."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.convert.refusal import MALFORMED, ConversionError
from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded, real_path
from cnnspec.kernels.step import Array

MOST_BYTES = 2 << 30  # bytes of a file, and of the arrays in it: protobuf's own limit
OLDEST = (1, 21)  # the first onnx package that reads untrusted files safely
SMALLEST = 16  # bytes of the smallest possible file
DEFAULT_DOMAINS = ("", "ai.onnx")


@cache
def package() -> Any:
    """Import the onnx package; RunError where it is not installed, or too old to read with."""
    try:
        onnx = importlib.import_module("onnx")
        for part in ("helper", "numpy_helper", "shape_inference", "reference", "defs"):
            importlib.import_module(f"onnx.{part}")
    except ImportError as error:
        raise RunError("onnx is not installed", "pip install 'cnnspec[onnx]'") from error
    version = tuple(int(part) for part in onnx.__version__.split(".")[:2])
    if version < OLDEST:
        raise RunError(f"reading needs onnx 1.21 or newer, got {onnx.__version__}", "pip install --upgrade onnx")
    return onnx


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of a file: its inputs and outputs by name, and its attributes as Python values and arrays."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""

    @property
    def output(self) -> str:
        """The name of the first output."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """An input of a network; a length is None if the file leaves it open."""

    name: str
    lengths: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The content of a file: operators in an order in which they can run, constants by name, inputs and outputs."""

    model: Any  # onnx.ModelProto, with all arrays in it
    operators: tuple[Operator, ...]
    constants: Mapping[str, Array]
    entries: tuple[Entry, ...]
    outputs: tuple[str, ...]
    opset: int
    producer: str


def read(path: Path) -> OnnxFile:
    """Read a file; ConversionError if it is damaged or is no network with inputs, OSError if there is no file.

    Arrays in other files are read from the file's own folder alone; links that lead out of it are refused.
    """
    onnx = package()
    content = read_bounded(path, MOST_BYTES)
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf has no common base for what it raises
        raise ConversionError([f"{path} is damaged or no ONNX file: {error}"], "name an .onnx file") from error
    try:
        return parse(model, path)
    except MALFORMED as error:
        raise ConversionError([f"{path} is damaged: {error}"], "write the file anew") from error


def parse(model: Any, path: Path) -> OnnxFile:
    """Return the content of a model; ConversionError with every reason why it cannot be converted."""
    graph = model.graph
    if not graph.node:
        raise ConversionError([f"{path} has no operators"], "name an .onnx file with a network in it")
    opset = next((int(item.version) for item in model.opset_import if item.domain in DEFAULT_DOMAINS), 1)
    newest = package().defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise ConversionError(
            [f"{path} is of opset {opset}, the installed onnx package knows 1 to {newest}"],
            "pip install --upgrade onnx",
        )
    if graph.sparse_initializer:
        raise ConversionError([f"{path} has sparse weights"], "write them as ordinary arrays")
    constants = {tensor.name: array_of(tensor, path) for tensor in graph.initializer}
    for tensor in graph.initializer:
        if tensor.data_location == package().TensorProto.EXTERNAL:  # the model is complete from here on
            tensor.CopyFrom(package().numpy_helper.from_array(constants[tensor.name], tensor.name))
    entries = [_entry(info) for info in graph.input if info.name not in constants]
    if not entries:
        raise ConversionError([f"{path} has no input"], "convert a file of a network that reads images")
    return OnnxFile(
        model,
        tuple(_operator(node, number, path) for number, node in enumerate(graph.node, 1)),
        constants,
        tuple(entries),
        tuple(info.name for info in graph.output),
        opset,
        " ".join(filter(None, (model.producer_name, model.producer_version))),
    )


def _entry(info: Any) -> Entry:
    kind = info.type.tensor_type
    lengths = [
        int(axis.dim_value) if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in kind.shape.dim
    ]
    try:
        dtype = np.dtype(package().helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError, ValueError):
        dtype = np.dtype("float32")
    return Entry(info.name, tuple(lengths), dtype)


def _operator(node: Any, number: int, path: Path) -> Operator:
    attributes = {attribute.name: _attribute(attribute, path) for attribute in node.attribute}
    outputs = tuple(node.output) or ("",)
    return Operator(
        node.op_type,
        node.name or f"{node.op_type}_{number}",
        tuple(node.input),
        outputs,
        attributes,
        "" if node.domain in DEFAULT_DOMAINS else node.domain,
    )


def _attribute(attribute: Any, path: Path) -> Any:
    kinds = package().AttributeProto
    if attribute.type == kinds.TENSOR:
        return array_of(attribute.t, path)
    try:
        value = package().helper.get_attribute_value(attribute)
    except ValueError:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]
    return value if isinstance(value, int | float | str) else None


def array_of(tensor: Any, path: Path) -> Array:
    """Return an array of the file; ConversionError if the number of its elements does not match its shape."""
    helper, kinds = package().helper, package().TensorProto
    lengths = [int(length) for length in tensor.dims]
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        count = int(np.prod(lengths, dtype=object)) if lengths else 1
        if min(lengths, default=0) < 0 or count * max(dtype.itemsize, 1) > MOST_BYTES:
            raise ValueError(f"its shape is {lengths}")
        if tensor.data_location == kinds.EXTERNAL:
            return _external(tensor, dtype, lengths, count, path)
        held = len(tensor.raw_data) or max(
            len(getattr(tensor, name))
            for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
        )
        if count and not held:
            raise ValueError(f"it holds nothing, its shape is {lengths}")
        return np.asarray(package().numpy_helper.to_array(tensor)).reshape(lengths)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise ConversionError(
            [f"{path}: the array {tensor.name!r} is damaged: {error}"], "write the file anew"
        ) from error


def _external(tensor: Any, dtype: np.dtype[Any], lengths: list[int], count: int, path: Path) -> Array:
    """Return an array from another file in the same folder; paths and links that lead out of the folder are refused."""
    entries = {item.key: item.value for item in tensor.external_data}
    folder = real_path(path.parent)
    place = real_path(folder / entries.get("location", ""))
    if not entries.get("location") or not place.is_relative_to(folder) or place == folder:
        raise ValueError(f"its numbers are outside of the file's folder: {entries.get('location', '')!r}")
    start, size = int(entries.get("offset", 0)), count * dtype.itemsize
    if start < 0 or int(entries.get("length", size)) != size:
        raise ValueError(f"expected {size:,} bytes, got {entries.get('length')}")
    if not place.is_file() or place.stat().st_size < start + size:
        raise ValueError(f"{place.name} is not there, or shorter than {start + size:,} bytes")
    with place.open("rb") as file:
        file.seek(start)
        return np.frombuffer(file.read(size), dtype.newbyteorder("<")).reshape(lengths).astype(dtype)
