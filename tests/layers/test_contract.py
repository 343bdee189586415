"""What every registered layer promises, over a list of example configurations for each."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnspec import registry
from cnnspec.kernels.step import Array, Step, step_state
from cnnspec.layers.base import Layer, Reduce, Steps, batch_shape
from cnnspec.layers.merge import Fork
from cnnspec.shapes import Shape, size
from tests.layers.examples import EXAMPLES, MAP
from tests.layers.harness import Bench, slopes, steps_of


def _cases(wanted: Callable[[Layer, Sequence[Shape]], bool] = lambda layer, shapes: True) -> pytest.MarkDecorator:
    cases = [
        (registry.find("layer", name)(**fields), shapes, f"{name}-{number}")
        for name, examples in EXAMPLES.items()
        for number, (fields, shapes) in enumerate(examples)
    ]
    params = [pytest.param(layer, shapes, id=name) for layer, shapes, name in cases if wanted(layer, shapes)]
    return pytest.mark.parametrize(("layer", "shapes"), params)


def _is_fixed(layer: Layer, shapes: Sequence[Shape]) -> bool:
    # Dropout draws other numbers for every shard and in every type.
    return not layer.train_only


every_layer = _cases()


def _relative(found: Array, expected: Array) -> float:
    scale = max(np.abs(expected).max(), np.abs(found).max(), 1e-3)
    return float(np.abs(found - expected).max() / scale)


def test_every_layer_has_examples() -> None:
    missing = sorted(set(registry.table("layer")) - set(EXAMPLES))
    assert not missing, f"give an example in tests/layers/examples.py of {', '.join(missing)}"


@every_layer
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_every_output_is_written(layer: Layer, shapes: Sequence[Shape], mode: Any) -> None:
    bench = Bench(layer, shapes, mode=mode)
    y = bench.forward()
    assert y.shape == batch_shape(layer.infer_shape(*shapes), bench.batch)
    assert np.isfinite(y).all()


@every_layer
def test_gradients_agree_with_central_differences(layer: Layer, shapes: Sequence[Shape]) -> None:
    bench = Bench(layer, shapes)
    bench.forward()
    bench.forget()
    bench.backward()
    input_grads, grads = bench.input_grads, bench.grads
    fresh = Bench(layer, shapes)
    random = np.random.default_rng(1)
    pairs = [*zip(fresh.shards[0].operands.inputs, input_grads, strict=True)]
    pairs += [(fresh.params[name], grads[name]) for name in grads]
    for array, found in pairs:
        places = random.permutation(array.size)[:40]
        expected = slopes(fresh, array, places)
        assert _relative(found.reshape(-1)[places], expected) <= 1e-6


@every_layer
def test_backward_twice_gives_the_same(layer: Layer, shapes: Sequence[Shape]) -> None:
    bench = Bench(layer, shapes)
    bench.forward()
    bench.backward()
    first = [*bench.input_grads, *bench.grads.values()]
    bench.forward()
    bench.backward()
    for before, after in zip(first, [*bench.input_grads, *bench.grads.values()], strict=True):
        np.testing.assert_array_equal(before, after)


@_cases(_is_fixed)
def test_several_shards_equal_one(layer: Layer, shapes: Sequence[Shape]) -> None:
    """Shards of a plan choose the same kernels; those of 1 and 2 images, which no plan has side by side, may not."""
    one, several = Bench(layer, shapes, sizes=[6]), Bench(layer, shapes, sizes=[2, 2, 2])
    for bench in (one, several):
        bench.forward()
        bench.backward()
    np.testing.assert_allclose(several.y, one.y, rtol=1e-12, atol=1e-13)
    for found, expected in zip(several.input_grads, one.input_grads, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    for name, expected in one.grads.items():
        np.testing.assert_allclose(several.grads[name], expected, rtol=1e-11, atol=1e-12)
    for name, expected in one.state.items():
        np.testing.assert_allclose(several.state[name], expected, rtol=1e-12)


@every_layer
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_what_shards_share_is_written_by_prepare_and_at_meetings_alone(
    layer: Layer, shapes: Sequence[Shape], mode: Any
) -> None:
    """Shards run at once, and so do the preparations of all layers, in memory that is others' while they run."""
    bench = Bench(layer, shapes, sizes=[2, 2], mode=mode)

    def unchanged(step: Step, arrays: Iterable[Array]) -> Step:
        def run() -> None:
            before = [array.copy() for array in arrays]
            step()
            for array, expected in zip(arrays, before, strict=True):
                np.testing.assert_array_equal(array, expected)

        return run

    def watched(program: Steps, arrays: Iterable[Array]) -> Steps:
        return [item if isinstance(item, Reduce) else unchanged(item, arrays) for item in program]

    shared = [*bench.prepared.values(), *bench.state.values(), *bench.params.values()]
    own = [
        array for shard in bench.shards for name, array in shard.operands.buffers.items() if name not in bench.prepared
    ]
    bench.prepare = watched(bench.prepare, own)
    bench.shards = [
        replace(
            shard,
            forward=watched(shard.forward, shared),
            shared=watched(shard.shared, shared),
            input=watched(shard.input, shared),
            params=watched(shard.params, shared),
        )
        for shard in bench.shards
    ]
    bench.forward()
    if mode == "train":
        bench.backward()


@every_layer
def test_gradients_of_parameters_and_inputs_come_in_any_order(layer: Layer, shapes: Sequence[Shape]) -> None:
    """Where one shard has several processes, they are computed at once."""
    one, other = Bench(layer, shapes), Bench(layer, shapes)
    for bench in (one, other):
        bench.forward()
    one.backward()
    other.run(lambda shard: shard.shared)
    other.run(lambda shard: shard.params)
    other.run(lambda shard: shard.input)
    for found, expected in zip(other.input_grads, one.input_grads, strict=True):
        np.testing.assert_array_equal(found, expected)
    for name, expected in one.grads.items():
        np.testing.assert_array_equal(other.grads[name], expected)


@every_layer
def test_backward_programs_write_nothing_that_the_other_one_uses(layer: Layer, shapes: Sequence[Shape]) -> None:
    """The gradients of inputs and of parameters may be computed at the same time: only `shared` comes before both."""
    together, apart = (Bench(layer, shapes, sizes=[2, 2]) for _ in range(2))
    for bench in (together, apart):
        bench.forward()
    together.backward()
    apart.backward_apart()
    for found, expected in zip(apart.input_grads, together.input_grads, strict=True):
        np.testing.assert_array_equal(found, expected)
    for name, expected in together.grads.items():
        np.testing.assert_array_equal(apart.grads[name], expected)


@_cases(lambda layer, shapes: (layer.in_place or layer.gradient_place is not None) and len(shapes) == 1)
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_in_place_gives_the_same(layer: Layer, shapes: Sequence[Shape], mode: Any) -> None:
    apart, together = Bench(layer, shapes, mode=mode), Bench(layer, shapes, mode=mode, in_place=True)
    for bench in (apart, together):
        bench.forward()
    np.testing.assert_array_equal(together.y, apart.y)
    if mode == "train":
        apart.backward()
        together.backward()
        np.testing.assert_array_equal(together.input_grads[0], apart.input_grads[0])
        for name, expected in apart.grads.items():
            np.testing.assert_array_equal(together.grads[name], expected)


@_cases(lambda layer, shapes: layer.in_place and len(shapes) == 1)
@pytest.mark.parametrize("offset", [0, 11, 1000])
def test_in_place_in_training_gives_the_same_where_nobody_wants_gradients(
    layer: Layer, shapes: Sequence[Shape], offset: float
) -> None:
    """A frozen layer with nothing trainable before it: also what it retains for backward may be overwritten."""
    benches = [Bench(layer, shapes, in_place=in_place, differentiated=False) for in_place in (False, True)]
    for bench in benches:
        for shard in bench.shards:
            np.add(shard.operands.x, offset, out=shard.operands.x)
        with step_state():  # exp of 1000 is infinite
            bench.forward()
    apart, together = benches
    np.testing.assert_array_equal(together.y, apart.y)


@every_layer
def test_what_is_read_stays(layer: Layer, shapes: Sequence[Shape]) -> None:
    """Values and gradients have other readers: several arrays of a plan may be one."""
    bench = Bench(layer, shapes)
    o = bench.shards[0].operands
    given = [*o.inputs, *o.output_grads, *o.params.values()]
    before = [array.copy() for array in given]
    bench.forward()
    value = o.y.copy()
    bench.backward()
    for array, expected in zip([*given, o.y], [*before, value], strict=True):
        np.testing.assert_array_equal(array, expected)


@_cases(_is_fixed)
def test_float32_agrees_with_float64(layer: Layer, shapes: Sequence[Shape]) -> None:
    single, double = Bench(layer, shapes, dtype=np.float32), Bench(layer, shapes)
    for bench in (single, double):
        bench.forward()
        bench.backward()
    pairs = [(single.y, double.y), *zip(single.input_grads, double.input_grads, strict=True)]
    pairs += [(single.grads[name], double.grads[name]) for name in double.grads]
    for found, expected in pairs:
        assert found.dtype == np.float32
        assert _relative(found, expected) < 2e-5


@every_layer
def test_no_step_allocates(layer: Layer, shapes: Sequence[Shape]) -> None:
    """Nothing larger than 64 KiB, on maps of 1 MiB."""
    bench = Bench(layer, shapes, sizes=[2**18 // size(shapes[0])], dtype=np.float32)
    steps = steps_of(bench)
    bench.forward()
    bench.backward()
    tracemalloc.start()
    try:
        with step_state():
            for step in steps:
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                step()
                _, peak = tracemalloc.get_traced_memory()
                assert peak - before <= 65536
    finally:
        tracemalloc.stop()


@every_layer
def test_nobody_wants_the_input_gradient(layer: Layer, shapes: Sequence[Shape]) -> None:
    bench = Bench(layer, shapes, wants_input_grads=False)
    reference = Bench(layer, shapes)
    for each in (bench, reference):
        each.forward()
        each.backward()
    for name, expected in reference.grads.items():
        np.testing.assert_array_equal(bench.grads[name], expected)


def test_fork_sums_the_gradients_of_its_readers() -> None:
    bench = Bench(Fork(), [MAP], readers=3)
    bench.forward()
    bench.backward()
    np.testing.assert_array_equal(bench.y, bench.inputs[0])
    np.testing.assert_allclose(bench.input_grads[0], sum(bench.output_grads), rtol=1e-14)
