"""One ONNX operator, run by the reference evaluator on public arrays: n, c, h, w or n, features."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cnnspec.kernels.step import Array
from cnnspec.layers.base import from_public, to_public

OPSET = 20


def evaluate(operator: str, *inputs: Array, **attributes: Any) -> Array:
    """The operator's output for inputs in a plan's layout, in that layout; parameters pass as they are."""
    names = [f"x{i}" for i in range(len(inputs))]
    kinds = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names]
    node = helper.make_node(operator, names, ["y"], **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)
    model = helper.make_model(
        helper.make_graph([node], "oracle", kinds, [output]), opset_imports=[helper.make_opsetid("", OPSET)]
    )
    public = [np.ascontiguousarray(to_public(x)) if x.ndim in (2, 4) else x for x in inputs]
    (found,) = ReferenceEvaluator(model).run(None, dict(zip(names, public, strict=True)))
    return from_public(np.asarray(found))
