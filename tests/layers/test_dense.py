"""The dense layer against plain products, central differences and its declarations."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnspec.layers.base import Operands
from cnnspec.layers.dense import Dense
from cnnspec.shapes import ShapeError
from tests.layers.harness import Bench, steps_of


def run(bench: Bench) -> Operands:
    """One step of a bench of one shard."""
    bench.forward()
    bench.backward()
    return bench.shards[0].operands


SIZES = [(1, 1, 1), (3, 7, 2), (800, 500, 5), (800, 500, 32), (500, 10, 33)]


@pytest.mark.parametrize(("features", "units", "n"), SIZES)
@pytest.mark.parametrize("bias", ["channel", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products(features: int, units: int, n: int, bias: str, dtype: Any) -> None:
    bench = Bench(Dense.of(units=units, bias=bias), [(features,)], sizes=(n,), dtype=dtype)
    o = run(bench)
    x, weight, dy = (a.astype(np.float64) for a in (o.x, o.params["weight"], o.dy))
    y = np.einsum("uf,fn->un", weight, x) + (o.params["bias"][:, None] if bias == "channel" else 0)
    expected = [
        (o.y, y),
        (o.dx, np.einsum("uf,un->fn", weight, dy)),
        (o.grads["weight"], np.einsum("un,fn->uf", dy, x)),
    ]
    if bias == "channel":
        expected.append((o.grads["bias"], dy.sum(1)))
    for got, want in expected:
        assert got is not None
        assert got.dtype == dtype
        assert np.abs(got - want).max() <= 10 * np.finfo(dtype).eps * max(np.abs(want).max(), 1)


def test_central_differences() -> None:
    bench = Bench(Dense.of(units=5), [(6,)], sizes=(4,))
    o = run(bench)
    assert o.dx is not None
    random = np.random.default_rng(1)
    gradients = [o.dx.copy(), o.grads["weight"].copy(), o.grads["bias"].copy()]
    for array, gradient in zip((o.x, o.params["weight"], o.params["bias"]), gradients, strict=True):
        direction, before = random.standard_normal(array.shape), array.copy()
        losses = []
        for step in (1e-4, -1e-4):
            array[...] = before + step * direction
            run(bench)
            losses.append(float(np.vdot(o.y, o.dy)))
        array[...] = before
        expected = float(np.vdot(gradient, direction))
        assert (losses[0] - losses[1]) / 2e-4 == pytest.approx(expected, rel=1e-6)


def test_a_step_allocates_nothing() -> None:
    bench = Bench(Dense.of(units=500), [(800,)], sizes=(32,), dtype=np.float32)
    run(bench)
    steps = steps_of(bench)
    tracemalloc.start()
    try:
        for step in steps:
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 65536


def test_first_layer_skips_its_input_gradient() -> None:
    bench = Bench(Dense.of(units=3), [(4,)])
    first = replace(bench.shards[0].operands, input_grads=(None,))
    assert list(bench.layer.backward(first).input) == []


def test_declarations() -> None:
    layer = Dense.of(units=3)
    assert layer.infer_shape((4,)) == (3,)
    params = layer.params((4,))
    assert (params["weight"].shape, params["weight"].fans, params["weight"].decays) == ((3, 4), (4, 3), True)
    assert (params["bias"].shape, params["bias"].decays) == ((3,), False)
    assert layer.cost((4,)) == 12
    assert list(Dense.of(units=3, bias="none").params((4,))) == ["weight"]


def test_a_map_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^expected a vector of features, got a map of 2x3x4$") as caught:
        Dense.of(units=3).infer_shape((2, 3, 4))
    assert caught.value.help == "put flatten or global_avg_pool2d before dense"
