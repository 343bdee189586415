"""The compiled plan as a whole: right gradients, the same bits whoever computes, no allocation, no stale memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.data import Dataset
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.plan import Entry, Training, Weights, arena_bytes, lower, shards_of
from cnnspec.spec import Spec, load, loads
from cnnspec.workers import WorkerPool
from tests.samples import sampled

ROOT = Path(__file__).parents[2]
SPECS = [path for path in sorted((ROOT / "specs").glob("*.yaml")) if "\ntrain:" in path.read_text()]

EVERYTHING = """
cnnspec: 1
name: everything
seed: 3
input: [2, 11, 9]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: same, bias: none}
  - batch_norm
  - relu
  - {id: spectral, type: conv2d, filters: 6, kernel_size: [3, 2], padding: same, kernel: dft}
  - {type: conv2d, filters: 6, kernel_size: [3, 2], padding: same, share: spectral, activation: tanh}
  - {type: conv2d, filters: 6, kernel_size: 1, trainable: false}
  - {id: stem, type: max_pool2d, kernel_size: 3, stride: 2, padding: 1}
  - id: res
    type: residual
    body: [{type: conv2d, filters: 6, kernel_size: 3, padding: same, groups: 2, kernel: patches}, gelu]
  - {id: down, type: residual, body: [{type: conv2d, filters: 8, kernel_size: 3, padding: 1, stride: 2}, tanh]}
  - type: parallel
    branches: [[{type: conv2d, filters: 3, kernel_size: 1, bias: untied}], [sigmoid]]
  - {type: dropout, rate: 0.3}
  - {id: twice, type: add, from: [dropout_1, dropout_1]}
  - flatten
  - {id: large, type: dense, units: 320, activation: silu}
  - {type: dense, units: 4}
train: {epochs: 1, batch_size: 70, optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01}}
"""


def batch(spec: Spec, count: int) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.standard_normal((count, *spec.input)), random.integers(0, 4, count)


def _computed(spec: Spec, weights: Weights, count: int) -> tuple[Training, float]:
    assert spec.train is not None
    training = Training(weights, spec.train.optimizer)
    training.grow(len(shards_of(count)))
    plan = lower(build(spec), count, "train", weights, WorkerPool(1), loss=spec.train.loss, training=training, seed=1)
    plan.images[...], plan.labels[...] = batch(spec, count)
    plan.compute()
    return training, float(plan.losses.mean())


@pytest.mark.parametrize("count", [5, 70])
def test_the_whole_networks_gradient(count: int) -> None:
    """Central differences along random directions through every layer at once, dropout's numbers held by the clock."""
    spec = loads(EVERYTHING)
    weights = Weights(build(spec), dtype="float64")
    weights.initialise(0)
    training, _ = _computed(spec, weights, count)
    gradient = training.gradients[0]
    for seed in range(3):
        direction = np.random.default_rng(seed).standard_normal(weights.values.shape)
        direction[weights.trained :] = 0  # frozen
        losses = []
        for sign in (1e-6, -1e-6):
            kept = weights.values.copy()
            weights.values += sign * direction
            losses.append(_computed(spec, weights, count)[1])
            weights.values[...] = kept
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(gradient @ direction), rel=1e-5)


def steps(threads: int, count: int) -> Array:
    spec = loads(EVERYTHING)
    model = Model(spec, build(spec), threads=threads)
    plan = model.plan(count, "train", "float32")
    for _ in range(5):
        plan.images[...], plan.labels[...] = batch(spec, count)
        plan.step(0.05)
    assert np.isfinite(model.weights.values).all()
    return np.concatenate([model.weights.values, *model.weights.state.values()])


@pytest.mark.parametrize("count", [5, 32, 70, 128])
def test_weights_are_bit_identical_for_any_number_of_threads(count: int) -> None:
    one = steps(1, count)
    for threads in (2, 4):
        assert steps(threads, count).tobytes() == one.tobytes()


def test_predictions_are_bit_identical_for_any_number_of_threads() -> None:
    """Also the first ones after a change of the weights, when all processes begin at once."""
    spec = load(ROOT / "specs" / "mnist-best.yaml")
    images = np.random.default_rng(0).integers(0, 256, (128, 1, 28, 28), np.uint8)
    models = [Model(spec, build(spec), threads=threads) for threads in (1, 2, 4)]
    for seed in range(10):
        for model in models:
            model.weights.initialise(seed)
        first, *others = [model.outputs(images) for model in models]
        for other in others:
            np.testing.assert_array_equal(other, first)


def test_different_seeds_start_differently() -> None:
    specs = [loads(EVERYTHING, overrides=[f"seed={seed}"]) for seed in (1, 2)]
    models = [Model(spec, build(spec), threads=1) for spec in specs]
    assert not np.array_equal(models[0].weights.values, models[1].weights.values)


@pytest.mark.parametrize("count", [5, 70])
def test_every_step_writes_what_it_reads(count: int) -> None:
    """The arena is poisoned with NaN before each step, as other plans may use it: nothing may live on from before."""
    spec = loads(EVERYTHING)
    model = Model(spec, build(spec), threads=1)
    plan = model.plan(count, "train", "float32")
    plan.images[...], plan.labels[...] = batch(spec, count)
    for _ in range(2):
        plan.arena.view(np.float32).fill(np.nan)
        plan.block.user = None
        plan.step(0.05)
        assert np.isfinite(plan.losses).all()
        assert np.isfinite(model.weights.values).all()


@pytest.mark.parametrize("count", [5, 70])
def test_plans_take_turns_in_one_block_without_a_trace(count: int) -> None:
    spec = loads(EVERYTHING)
    model, apart = Model(spec, build(spec), threads=2), Model(spec, build(spec), threads=2)
    images, labels = batch(spec, count)
    for _ in range(3):
        for one in (model, apart):
            plan = one.plan(count, "train", "float32")
            plan.images[...], plan.labels[...] = images, labels
            plan.step(0.05)
        for size in (1, 40, 1):  # between the steps of one of them, through plans that use the same bytes
            model.outputs(images[:size].astype(np.float32))
    assert model.plan(1, "infer", "float32").block is model.plan(count, "train", "float32").block
    assert np.array_equal(model.weights.values, apart.weights.values)
    expected = lower(model.graph, count, "infer", model.weights, WorkerPool(1), entry=Entry("float32"))
    expected.images[...] = images
    expected.compute()
    for _ in range(2):
        np.testing.assert_array_equal(model.outputs(images.astype(np.float32)), expected.output)


@pytest.mark.parametrize("path", sampled(SPECS, 3), ids=lambda path: path.stem)
def test_a_step_allocates_nothing(path: Path) -> None:
    spec = load(path)
    assert spec.train is not None
    model = Model(spec, build(spec), threads=1)
    plan = model.plan(spec.train.batch_size, "train")
    for _ in range(2):
        plan.step(0.01)
    tracemalloc.start()
    try:
        plan.step(0.01)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 65536


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_the_arena_is_as_large_as_foretold(path: Path, mode: str) -> None:
    spec = load(path)
    assert spec.train is not None
    model = Model(spec, build(spec), threads=1)
    count = spec.train.batch_size
    if mode == "train":
        foretold = arena_bytes(model.graph, count, "train", loss=spec.train.loss)
        assert model.plan(count, "train").arena.nbytes == foretold
    else:
        foretold = arena_bytes(model.graph, count, "infer", loss=spec.train.loss)
        assert model.plan(count, "infer").arena.nbytes == foretold


def test_shards_depend_on_the_batch_alone() -> None:
    assert [shards_of(n) for n in (1, 5, 31, 32, 64, 65)] == [(1,), (5,), (31,), (16, 16), (32, 32), (32, 33)]
    for n in range(1, 300):
        assert sum(shards_of(n)) == n
        assert n < 32 or min(shards_of(n)) >= 16


def test_inference_agrees_with_training_without_dropout_and_batch_statistics() -> None:
    spec = loads(EVERYTHING.replace("  - batch_norm\n", "").replace("rate: 0.3", "rate: 0.0"))
    model = Model(spec, build(spec), threads=1)
    images, labels = batch(spec, 70)
    plan = model.plan(70, "train", "float32")
    plan.images[...], plan.labels[...] = images, labels
    plan.compute()
    assert model.score(Dataset(images.astype(np.float32), labels)).loss == pytest.approx(
        float(plan.losses.mean()), rel=1e-5
    )


def test_predict_takes_any_number_of_images() -> None:
    spec = loads(EVERYTHING)
    model = Model(spec, build(spec), threads=2)
    images = batch(spec, 600)[0].astype(np.float32)
    whole = model.outputs(images)
    assert whole.shape == (600, 4)
    np.testing.assert_allclose(model.outputs(images[:1]), whole[:1], rtol=1e-4, atol=1e-5)
    assert model.outputs(images[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"expected images of shape \(n, 2, 11, 9\), got \(3, 2, 9, 11\)"):
        model.outputs(np.zeros((3, 2, 9, 11), np.float32))


SHARED = """
cnnspec: 1
name: shared
input: [2, 8, 8]
layers:
  - {id: a, type: conv2d, filters: 2, kernel_size: 3, padding: same}
  - relu
  - {id: b, type: conv2d, filters: 2, kernel_size: 3, padding: same, share: a}
  - {id: c, type: conv2d, filters: 2, kernel_size: 3, padding: same, share: a, from: relu_1}
  - {type: add, from: [b, c]}
  - {id: held, type: conv2d, filters: 2, kernel_size: 1, trainable: false}
  - flatten
  - {id: out, type: dense, units: 4}
train: {epochs: 1, optimizer: {type: sgd, learning_rate: 0.1}}
"""


def test_sharing_layers_count_once_and_sum_their_gradients() -> None:
    spec = loads(SHARED)
    graph = build(spec)
    assert graph.parameter_count == 38 + 6 + 4 * 128 + 4
    assert graph.trainable_count == graph.parameter_count - 6
    shared = Weights(graph, dtype="float64")
    shared.initialise(0)
    apart_spec = loads(SHARED.replace(", share: a", ""))
    apart = Weights(build(apart_spec), dtype="float64")
    for name, array in apart.params.items():
        layer, _, kind = name.partition(".")
        array[...] = shared.params[f"{'a' if layer in 'abc' else layer}.{kind}"]
    one, _ = _computed(spec, shared, 40)
    several, _ = _computed(apart_spec, apart, 40)
    for kind in ("weight", "bias"):
        parts = [
            sum(apart.views(gradient, node)[kind] for gradient in several.gradients[:2])
            for node in build(apart_spec).nodes
            if node.name in ("a", "b", "c")
        ]
        (node,) = (node for node in graph.nodes if node.name == "a")
        found = sum(shared.views(gradient, node)[kind] for gradient in one.gradients[:2])
        np.testing.assert_allclose(found, sum(parts), rtol=1e-10, atol=1e-14)


def test_frozen_layers_stay() -> None:
    spec = loads(SHARED)
    model = Model(spec, build(spec), threads=1)
    before = {name: array.copy() for name, array in model.params.items()}
    plan = model.plan(8, "train")
    plan.images[...], plan.labels[...] = batch(spec, 8)
    plan.step(0.1)
    moved = {name for name, array in model.params.items() if (array != before[name]).any()}
    assert moved == {"a.weight", "a.bias", "out.weight", "out.bias"}
