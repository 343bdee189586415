"""Weights of float16 and 8 bits become float32, which a comment says; rounding of computed numbers is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.convert.converted import Converted
from cnnspec.convert.onnx_conversion import converted
from cnnspec.convert.onnx_file import parse
from cnnspec.convert.proof import prove
from cnnspec.convert.refusal import ConversionError
from tests.convert.test_onnx_specs import drawn, node, onnx

FLOAT, FLOAT16 = 1, 10


def proven(nodes: list[Any], arrays: dict[str, Any], kind: int = FLOAT, opset: int = 13) -> Converted:
    """The conversion of a file from `image` to `out`, whose types are `kind`, after the proof that it agrees."""
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("image", kind, ["n", 3, 6, 6])],
        [onnx.helper.make_tensor_value_info("out", kind, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    found = converted(parse(model, Path("net.onnx")), "net.onnx")
    network = compile(found.text, threads=1)
    network.weights.load(found.arrays)
    proof = prove(found, network.outputs)
    assert not isinstance(proof, str)
    assert proof.agrees, proof.text()
    return found


def test_a_file_of_float16_is_compared_with_its_own_precision() -> None:
    weight = drawn(4, 3, 3, 3).astype(np.float16)
    found = proven([node("Conv", "image w", "conv"), node("Relu", "conv", "out")], {"w": weight}, FLOAT16)
    assert found.half
    assert "# Its input is float16: numbers are float32 here.\n# Array of float16 read as float32.\n" in found.text
    (array,) = found.arrays.values()
    np.testing.assert_array_equal(array, weight.astype(np.float32))


def test_weights_stored_as_float16_are_exact() -> None:
    nodes = [node("Cast", "w", "wide", to=FLOAT), node("Conv", "image wide", "out")]
    found = proven(nodes, {"w": drawn(4, 3, 3, 3).astype(np.float16)})
    assert not found.half
    assert "# Array of float16 read as float32.\n# Cast of constants computed.\n" in found.text


@pytest.mark.parametrize("opset", [10, 13, 21])
def test_weights_of_8_bits_are_what_they_stand_for(opset: int) -> None:
    """One scale for all filters, one for each, and weights that a file quantises itself."""
    each: dict[str, Any] = {"axis": 0} if opset >= 13 else {}
    scales = np.array([0.01, 0.02, 0.03], np.float32) if each else np.float32(0.02)
    arrays = {
        "a": np.random.default_rng(0).integers(-128, 128, (3, 3, 1, 1), np.int8),
        "b": np.random.default_rng(1).integers(0, 256, (3, 3, 1, 1), np.uint8),
        "c": drawn(3, 3, 1, 1),
        "scale": np.float32(0.01),
        "scales": scales,
        "zero": np.uint8(128),
        "zeros": np.zeros_like(scales, np.int8),
    }
    nodes = [
        node("DequantizeLinear", "a scales zeros", "wa", **each),
        node("DequantizeLinear", "b scale zero", "wb"),
        node("QuantizeLinear", "c scale zero", "quantised"),
        node("DequantizeLinear", "quantised scale zero", "wc"),
        node("Conv", "image wa", "first"),
        node("Conv", "first wb", "second"),
        node("Conv", "second wc", "out"),
    ]
    text = proven(nodes, arrays, opset=opset).text
    assert "# DequantizeLinear of constants computed, 3 times.\n# QuantizeLinear of constants computed.\n" in text


def test_all_that_rounds_what_is_computed_is_refused_at_once() -> None:
    arrays = {"w": drawn(3, 3, 1, 1), "scale": np.float32(0.1), "zero": np.int8(0)}
    nodes = [
        node("QuantizeLinear", "image scale zero", "rounded", "first"),
        node("DequantizeLinear", "rounded scale zero", "again", "second"),
        node("Conv", "again w", "conv"),
        node("QuantizeLinear", "conv scale zero", "out", "third"),
    ]
    with pytest.raises(ConversionError) as refused:
        proven(nodes, arrays)
    assert [reason.split(" (")[0] for reason in refused.value.reasons] == ["first", "second", "third"]
    assert all("nearest: the model before it was quantised" in reason for reason in refused.value.reasons)
