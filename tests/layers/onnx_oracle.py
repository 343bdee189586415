"""One ONNX operator, run by the reference evaluator on public arrays: n, c, h, w or n, features."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnxruntime import InferenceSession

from cnnspec.kernels.step import Array
from cnnspec.layers.base import from_public, to_public

OPSET = 20


def evaluate(operator: str, *inputs: Array, opset: int = OPSET, runtime: bool = False, **attributes: Any) -> Array:
    """The operator's output in a plan's layout, by the reference evaluator, or in float32 by onnxruntime.

    Plain arrays of two or four axes are in a plan's layout; others, and subclasses of ndarray, pass as they are.
    """
    if runtime:
        inputs = tuple(x.astype(np.float32) if x.dtype == np.float64 else x for x in inputs)
    names = [f"x{i}" for i in range(len(inputs))]
    kinds = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(x).dtype), None)
        for name, x in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(operator, names, ["y"], **attributes)
    output = helper.make_tensor_value_info("y", kinds[0].type.tensor_type.elem_type, None)
    model = helper.make_model(
        helper.make_graph([node], "oracle", kinds, [output]),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    public = [
        np.ascontiguousarray(to_public(x)) if type(x) is np.ndarray and x.ndim in (2, 4) else np.asarray(x)
        for x in inputs
    ]
    engine = InferenceSession(model.SerializeToString()) if runtime else ReferenceEvaluator(model)
    (found,) = engine.run(None, dict(zip(names, public, strict=True)))
    return from_public(np.asarray(found))
