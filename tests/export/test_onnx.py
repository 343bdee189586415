"""The ONNX model computes what the network computes, in onnxruntime, for any number of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.diagnostics import RunError
from cnnspec.export import onnx
from cnnspec.graph import build
from cnnspec.plan import Weights, lower
from cnnspec.spec import load, loads
from cnnspec.workers import WorkerPool
from tests.compare.test_pytorch import RARE, SMALL

runtime = pytest.importorskip("onnxruntime")

ODD = RARE.replace("local_response_norm, size: 4", "local_response_norm, size: 3")  # onnxruntime wants it odd


@pytest.mark.parametrize("spec", [*SMALL, ODD], ids=[*(path.stem for path in SMALL), "rare"])
def test_outputs_agree(spec: Path | str) -> None:
    graph = build(loads(spec) if isinstance(spec, str) else load(spec))
    weights, random = Weights(graph), np.random.default_rng(0)
    weights.initialise(0)
    for array in weights.state.values():
        array[...] = random.uniform(0.5, 1.5, array.shape)
    model = onnx.model(graph, dict(weights.arrays())).SerializeToString()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        plan = lower(graph, count, "infer", weights, WorkerPool(1))
        plan.images[...] = random.random(plan.images.shape, np.float32)
        plan.compute()
        (found,) = session.run(None, {"input": plan.images})
        scale = max(1.0, float(abs(plan.output).max()))
        np.testing.assert_allclose(found / scale, plan.output / scale, rtol=0, atol=1e-5)


def test_a_layer_without_counterpart_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "WRITERS", {})
    graph = build(load(SMALL[0]))
    with pytest.raises(RunError, match="ONNX has no counterpart of "):
        onnx.model(graph, dict(Weights(graph).arrays()))
