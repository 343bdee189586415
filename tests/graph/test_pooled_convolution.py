"""A first convolution that pools: its own results against those of the two layers that it stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec.graph import Graph, build
from cnnspec.graph.passes import PASSES, Pass, optimise
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode
from cnnspec.optim.settings import TrainSettings
from cnnspec.plan import Choices, Training, Weights, lower
from cnnspec.spec import loads
from cnnspec.workers import WorkerPool
from tests.graph.test_passes import follows_the_weights

NAME = "pooling-in-convolution"
SPEC = """
cnnspec: 1
name: net
input: {input}
layers:
  - {{id: c, type: conv2d, filters: 4, {conv}}}
  - {{id: p, type: max_pool2d, {pool}}}
  - flatten
  - {{type: dense, units: 3}}
train: {{epochs: 1}}
"""


def net(
    shape: tuple[int, int, int] = (1, 10, 10), conv: str = "kernel_size: 3", pool: str = "kernel_size: 2"
) -> tuple[Graph, TrainSettings]:
    spec = loads(SPEC.format(input=list(shape), conv=conv, pool=pool))
    assert spec.train is not None
    return build(spec), spec.train


def pooled(graph: Graph, mode: Mode = "train") -> bool:
    return any(node.layer.type_name == "conv2d+max_pool2d" for node in optimise(graph, PASSES[mode]).nodes)


def passes(mode: Mode, *, pooling: bool) -> dict[str, Pass]:
    return {name: transform for name, transform in PASSES[mode].items() if pooling or name != NAME}


def trained(
    graph: Graph, settings: TrainSettings, count: int, threads: int, *, pooling: bool = True, whole: bool = False
) -> list[Array]:
    """Losses and gradients of one batch; `whole` numbers leave no rounding, and many equals in a window."""
    random, weights = np.random.default_rng(0), Weights(graph, dtype="float64")
    weights.initialise(0)
    if whole:
        weights.values[...] = random.integers(-1, 2, weights.values.shape)
    training, team = Training(weights, settings.optimizer, 2), WorkerPool(threads)
    chosen = passes("train", pooling=pooling)
    plan = lower(
        graph, count, "train", weights, team, loss=settings.loss, training=training, choices=Choices(passes=chosen)
    )
    drawn = random.integers(-1, 2, plan.images.shape) if whole else random.standard_normal(plan.images.shape)
    plan.images[...], plan.labels[...] = drawn, random.integers(0, 3, count)
    plan.compute()
    team.close()
    return [plan.losses.copy(), *(gradient.copy() for gradient in training.gradients)]


@dataclass(frozen=True)
class Laid:
    """A map, a convolution over it, and how many windows of 2x2 cover what that gives."""

    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    padding: tuple[int, int, int, int]
    halves: tuple[int, int]
    bias: str

    @property
    def conv(self) -> str:
        kernel, padding = list(self.kernel), list(self.padding)
        return f"kernel_size: {kernel}, padding: {padding}, kernel: direct, bias: {self.bias}"


SIDES = st.integers(1, 4)


@st.composite
def laid(draw: st.DrawFn) -> Laid:
    channels, kernel = draw(st.integers(1, 2)), draw(st.tuples(SIDES, SIDES))
    padding, halves = draw(st.tuples(*[st.integers(0, 2)] * 4)), draw(st.tuples(SIDES, SIDES))
    rows, columns = (2 * half + side - 1 for half, side in zip(halves, kernel, strict=True))
    shape = (channels, rows - padding[0] - padding[1], columns - padding[2] - padding[3])
    assume(min(shape) > 0)
    return Laid(shape, kernel, padding, halves, draw(st.sampled_from(["channel", "none"])))


@settings(max_examples=25, deadline=None)
@given(laid(), st.sampled_from([1, 5, 33]), st.booleans())
def test_results_are_those_of_two_layers(laid: Laid, count: int, whole: bool) -> None:
    graph, train = net(laid.shape, laid.conv)
    assert pooled(graph)
    apart, together = (trained(graph, train, count, 1, pooling=pooling, whole=whole) for pooling in (True, False))
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("count", [1, 5, 16, 40])
def test_two_members_compute_what_one_does(count: int) -> None:
    graph, train = net((1, 28, 28), "kernel_size: 5, padding: [1, 1, 2, 0]")
    assert pooled(graph)
    results = [trained(graph, train, count, threads) for threads in (1, 2)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


INFERRED = """
cnnspec: 1
name: net
input: {input}
layers:
  - {{id: c, type: conv2d, filters: 3, {conv}}}
  - {{id: p, type: max_pool2d, kernel_size: 2}}
  - relu
"""


@settings(max_examples=60, deadline=None)
@given(laid(), st.integers(1, 2), st.integers(0, 1000))
def test_inference_is_convolution_maximum_and_activation(laid: Laid, count: int, seed: int) -> None:
    spec = INFERRED.format(input=list(laid.shape), conv=laid.conv)
    graph, random = build(loads(spec)), np.random.default_rng(seed)
    assert pooled(graph, "infer")
    weights = Weights(graph, dtype="float64")
    plan = lower(graph, count, "infer", weights, WorkerPool(1))
    given_bias = weights.params["c.bias"] if laid.bias == "channel" else np.zeros(3)
    for _ in range(2):  # what the first images left in the arena does not matter
        for array in weights.params.values():
            array[...] = random.standard_normal(array.shape)
        weights.version += 1
        images = random.standard_normal(plan.images.shape).astype("float32").astype("float64")
        plan.images[...] = images
        plan.compute()
        padded = np.pad(images, [(0, 0), (0, 0), laid.padding[:2], laid.padding[2:]])
        windows = np.lib.stride_tricks.sliding_window_view(padded, laid.kernel, (2, 3))
        whole = np.einsum("nchwij,fcij->nfhw", windows, weights.params["c.weight"]) + given_bias[:, None, None]
        maxima = whole.reshape(count, 3, laid.halves[0], 2, laid.halves[1], 2).max((3, 5))
        np.testing.assert_allclose(plan.output, np.maximum(maxima, 0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_two_members_infer_what_one_does(count: int) -> None:
    graph, _ = net((1, 28, 28), "kernel_size: 5, padding: [1, 1, 2, 0]")
    assert pooled(graph, "infer")
    weights, outputs = Weights(graph), list[Array]()
    weights.initialise(0)
    for threads in (1, 2):
        team = WorkerPool(threads)
        plan = lower(graph, count, "infer", weights, team)
        plan.images[...] = np.random.default_rng(0).standard_normal(plan.images.shape)
        plan.compute()
        outputs.append(plan.output)
        team.close()
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_inference_follows_the_weights() -> None:
    graph, _ = net((1, 12, 12), "kernel_size: 5")
    follows_the_weights(graph, passes("infer", pooling=False))


@pytest.mark.parametrize(
    ("shape", "conv", "pool"),
    [
        ((1, 11, 10), "kernel_size: 3", "kernel_size: 2"),  # a row would be left over
        ((1, 10, 11), "kernel_size: 3", "kernel_size: 2"),
        ((1, 10, 10), "kernel_size: 3, stride: 2", "kernel_size: 2"),
        ((1, 14, 14), "kernel_size: 3, dilation: 2", "kernel_size: 2"),
        ((2, 10, 10), "kernel_size: 3, groups: 2", "kernel_size: 2"),
        ((1, 10, 10), "kernel_size: 3, bias: untied", "kernel_size: 2"),
        ((1, 10, 10), "kernel_size: 3, kernel: patches", "kernel_size: 2"),
        ((1, 10, 10), "kernel_size: 3", "kernel_size: 2, stride: 1"),
        ((1, 11, 11), "kernel_size: 3", "kernel_size: 3"),
        ((32, 10, 10), "kernel_size: 3", "kernel_size: 2"),  # for which other kernels are faster
    ],
)
def test_what_cannot_pool_or_should_not(shape: tuple[int, int, int], conv: str, pool: str) -> None:
    graph, _ = net(shape, conv, pool)
    assert not pooled(graph, "train")
    assert not pooled(graph, "infer")


OTHERS = """
cnnspec: 1
name: net
input: [1, 10, 10]
layers:
  - {id: c, type: conv2d, filters: 1, kernel_size: 3, padding: same}
  - {id: p, type: max_pool2d, kernel_size: 2, from: READ}
  - {id: q, type: MORE}
  - flatten
  - {type: dense, units: 3}
"""


@pytest.mark.parametrize(
    ("read", "more"),
    [
        ("input", "relu, from: c"),
        ("c", "add, from: [c, c]"),
        ("c", "conv2d, filters: 1, kernel_size: 3, padding: same, from: input, share: c"),
    ],
)
def test_what_others_read_is_left_alone(read: str, more: str) -> None:
    assert not pooled(build(loads(OTHERS.replace("READ", read).replace("MORE", more))), "infer")


@pytest.mark.parametrize(
    ("shape", "conv", "pools"),
    [
        ((1, 32, 32), "kernel_size: 5", True),  # LeNet-5
        ((1, 28, 28), "kernel_size: 5", True),
        ((3, 32, 32), "kernel_size: 5", False),
        ((3, 32, 32), "kernel_size: 5, kernel: direct", True),
        ((1, 32, 32), "kernel_size: 5, kernel: patches", False),
        ((1, 32, 32), "kernel_size: 5, bias: untied", False),
        ((1, 31, 32), "kernel_size: 5", False),
        ((1, 33, 33), "kernel_size: 3, stride: 2", False),
    ],
)
def test_shapes_alone_say_whether_a_convolution_pools(shape: tuple[int, int, int], conv: str, pools: bool) -> None:
    graph, _ = net(shape, conv)
    assert pooled(graph) == pooled(graph, "infer") == pools
