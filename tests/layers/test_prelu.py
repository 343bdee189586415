"""The activation that is learned: one slope for each channel."""

from __future__ import annotations

import numpy as np

from cnnspec.layers.prelu import Prelu
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate


def test_prelu_has_one_slope_for_each_channel() -> None:
    bench = Bench(Prelu(), [(3, 5, 4)])
    expected = evaluate("PRelu", bench.inputs[0], bench.params["weight"].reshape(3, 1, 1))
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-14)
    fresh = np.zeros(3)
    Prelu().params((3, 5, 4))["weight"].initializer.fill(fresh, (1, 1), np.random.default_rng(0))
    np.testing.assert_array_equal(fresh, 0.25)
