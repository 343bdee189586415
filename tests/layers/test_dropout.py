"""Dropout: the share that is dropped, the scale of the rest, one mask for both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec.layers.dropout import Dropout, SpatialDropout2d
from tests.layers.harness import Bench


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_a_share_and_keeps_the_mean(rate: float, dtype: Any) -> None:
    bench = Bench(Dropout(rate=rate), [(4, 25, 25)], sizes=[16], dtype=dtype)
    bench.shards[0].operands.x.fill(1)
    y = bench.forward()
    kept = y != 0
    assert abs(kept.mean() - (1 - rate)) < 0.01
    np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=1e-6)


def test_gradient_goes_through_the_same_mask() -> None:
    bench = Bench(Dropout(rate=0.5), [(2, 5, 5)])
    bench.shards[0].operands.x.fill(1)
    y = bench.forward()
    bench.backward()
    np.testing.assert_allclose(bench.input_grads[0], y * bench.output_grads[0], rtol=1e-14)


def test_inference_is_the_identity() -> None:
    bench = Bench(Dropout(rate=0.9), [(2, 5, 5)], mode="infer")
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0])


def test_spatial_dropout_drops_whole_channels() -> None:
    bench = Bench(SpatialDropout2d(rate=0.25), [(200, 3, 4)], sizes=[8])
    bench.shards[0].operands.x.fill(1)
    y = bench.forward()
    kept = y != 0
    assert (kept == kept[:1, :, :1]).all()
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_allclose(y[kept], 4 / 3, rtol=1e-14)
