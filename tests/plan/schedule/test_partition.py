"""How work is divided: shards of a batch, rows of a map, and that parts give what the whole layer gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec import registry
from cnnspec.graph import INPUT, Graph, build
from cnnspec.graph.passes import PASSES, optimise
from cnnspec.kernels.step import Array
from cnnspec.layers.activation import Relu
from cnnspec.layers.base import Layer, Mode, Operands, Reduce, batch_shape
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.merge import Add
from cnnspec.layers.pool import AvgPool2d, LpPool2d, MaxPool2d
from cnnspec.plan import Choices, shards_of
from cnnspec.plan.schedule.partition import Part, divide, part_of
from cnnspec.shapes import Shape, ShapeError
from cnnspec.spec import loads
from cnnspec.workers import Processes, Program, WorkerPool
from tests.layers.draws import paddings, pairs
from tests.layers.examples import EXAMPLES
from tests.layers.harness import Bench, poison
from tests.plan.graphs import graphs, node, results

LAYERS = [
    pytest.param(registry.find("layer", name)(**fields), shapes, id=f"{name}-{number}")
    for name, examples in EXAMPLES.items()
    for number, (fields, shapes) in enumerate(examples)
]
margins: st.SearchStrategy[Any] = st.sampled_from(["valid", "same", 1, (0, 2, 1, 0)])
modes = pytest.mark.parametrize("mode", get_args(Mode))


@pytest.mark.parametrize("batch", [1, 5, 31, 32, 33, 63, 64, 65, 100, 1000])
def test_shards_hold_the_batch_in_even_parts(batch: int) -> None:
    shards = shards_of(batch)
    assert sum(shards) == batch
    assert max(shards) - min(shards) <= 1
    assert len(shards) == 1 or min(shards) >= 16


def compare(layer: Layer, shapes: Sequence[Shape], mode: Mode) -> int:
    """Divide the layer at every row that it can be divided at, compare with the whole, and count the ways."""
    count, ways = batch_shape(layer.infer_shape(*shapes), 1)[0], 0
    for first in range(1, count):
        parts = [part_of(layer, rows, *shapes, n=3, mode=mode) for rows in (slice(0, first), slice(first, count))]
        if None in parts:
            continue
        ways += 1
        whole, halves = (Bench(layer, shapes, mode=mode, dtype=np.float64) for _ in range(2))
        whole.forward()
        for part in parts:
            assert part is not None
            for step in [*halves.prepare, *part.layer.forward(operands_of(halves, part))]:
                assert not isinstance(step, Reduce)
                step()
        np.testing.assert_allclose(halves.y, whole.y, rtol=1e-10, atol=1e-11)
        if mode == "train":
            halves.forget()
            for bench in (whole, halves):
                bench.backward()
            for found, expected in zip(halves.input_grads, whole.input_grads, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
    return ways


def operands_of(bench: Bench, part: Part) -> Operands:
    """What the part has in common with the whole, its rows of what is kept, and scratch of its own, which holds NaN."""
    (shard,) = bench.shards
    buffers = dict[str, Array]()
    for name, buffer in part.layer.scratch(*part.shapes(*bench.shapes), n=3, mode=bench.mode).items():
        if buffer.lifetime in ("prepare", "kept"):
            buffers[name] = shard.operands.buffers[name][part.rows if buffer.lifetime == "kept" else slice(None)]
        elif buffer.lifetime == "forward":
            buffers[name] = np.empty(buffer.shape, buffer.dtype or bench.dtype)
            poison(buffers[name])
    return part.operands(shard.operands, buffers)


@pytest.mark.parametrize(("layer", "shapes"), LAYERS)
@modes
def test_parts_equal_the_whole(layer: Layer, shapes: Sequence[Shape], mode: Mode) -> None:
    ways = compare(layer, shapes, mode)
    if layer.row_reads is None:
        assert not ways
    elif isinstance(layer, AvgPool2d | MaxPool2d) and not layer.ceil_mode:
        assert ways


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(get_args(Mode)))
def test_random_convolutions(data: st.DataObject, mode: Mode) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 2))
    layer = Conv2d(
        filters=groups * draw(st.integers(1, 3)),
        kernel_size=draw(st.sampled_from([(1, 1), (2, 3), (3, 3), (5, 5)])),
        stride=draw(st.sampled_from([(1, 1), (2, 2), (3, 1)])),
        padding=draw(margins),
        dilation=draw(st.sampled_from([(1, 1), (2, 1)])),
        groups=groups,
        bias=draw(st.sampled_from(["channel", "none", "untied"])),
        kernel=draw(st.sampled_from([None, "direct", "winograd2", "winograd4", "depthwise", "patches", "dft"])),
    )
    shape = (groups * draw(st.integers(1, 3)), draw(st.integers(2, 13)), draw(st.integers(2, 7)))
    try:
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    compare(layer, [shape], mode)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(get_args(Mode)), st.sampled_from([MaxPool2d, AvgPool2d, LpPool2d]))
def test_random_pooling(data: st.DataObject, mode: Mode, kind: Any) -> None:
    draw = data.draw
    more = {"count_include_pad": draw(st.booleans())} if kind is AvgPool2d else {}
    some = st.sampled_from(["same", "same_lower", "half", (0, 1, 0, 0), (1, 0, 0, 0)])
    layer = kind(
        kernel_size=draw(st.just((2, 2)) | pairs),
        stride=draw(st.none() | pairs),
        padding=draw(paddings | some),
        ceil_mode=draw(st.booleans()),
        **more,
    )
    shape = (2, draw(st.integers(2, 9)), draw(st.integers(2, 6)))
    try:
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    compare(layer, [shape], mode)


NET = """
cnnspec: 1
name: net
input: [1, 28, 28]
layers:
  - {type: conv2d, filters: 20, kernel_size: 5, kernel: patches}
  - relu
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 50, kernel_size: 5}
  - batch_norm
  - relu
  - {type: max_pool2d, kernel_size: 3, stride: 2}
  - flatten
  - {type: dense, units: 500}
  - relu
  - {type: dense, units: 10}
"""


def stages_of(mode: Mode, n: int) -> list[tuple[list[str], list[int]]]:
    """The names of each stage's nodes, and the first row of the second part of each."""
    graph = optimise(build(loads(NET)), PASSES[mode])
    return [
        ([each.name for each in stage.nodes], [parts[1].rows.start for parts in stage.parts.values()])
        for stage in divide(graph, n, mode).stages
    ]


def test_layers_follow_one_another_without_a_barrier_as_far_as_rows_allow() -> None:
    assert stages_of("infer", 1) == [
        (["conv2d_1", "relu_1", "max_pool2d_1"], [12, 6, 6]),
        (["batch_norm_1"], [4]),
        (["relu_2", "max_pool2d_2", "flatten_1"], []),
        (["dense_1", "relu_3"], [250, 250]),
        (["dense_2"], []),
    ]


def test_statistics_of_the_batch_are_taken_over_all_rows() -> None:
    assert any("batch_norm_1" in names for names, rows in stages_of("train", 5) if not rows)


class LastFirst(WorkerPool):
    """Runs the tasks of every phase one after the other, the last one first, except where they share a queue."""

    def __init__(self) -> None:
        super().__init__(1, Processes)

    def run(self, program: Program) -> None:
        """Phases before the last one in that order."""
        super().run([list(reversed(phase)) for phase in program[:-1]])
        super().run(program[-1:])


@modes
@settings(max_examples=40, deadline=None)
@given(graph=graphs())
def test_the_order_of_parts_changes_no_bit(mode: Mode, graph: Graph) -> None:
    """Whoever is first, nothing that the other one reads was overwritten, and nothing read that is not there yet."""
    first = results(graph, 3, mode, WorkerPool(1, Processes), Choices())
    last = results(graph, 3, mode, LastFirst(), Choices())
    for name, array in first.items():
        np.testing.assert_array_equal(last[name], array, err_msg=name)


def test_no_layer_works_in_place_where_another_worker_still_reads() -> None:
    shape = (32, 8, 32)
    nodes = [
        node("map", Conv2d(filters=shape[0], kernel_size=(1, 1)), INPUT, shapes=(shape,)),
        node("pool", MaxPool2d(kernel_size=(3, 1), stride=(1, 1), padding=(1, 1, 0, 0)), "map", shapes=(shape,)),
        node("relu", Relu(), "map", shapes=(shape,)),
        node("add", Add(), "pool", "relu", shapes=(shape, shape)),
    ]
    graph = Graph("beside", shape, tuple(nodes), "add")
    assert [each.name for each in divide(graph, 3, "infer").stages[-1].nodes] == ["pool", "relu", "add"]
    first, last = (results(graph, 3, "infer", pool, Choices()) for pool in (WorkerPool(1, Processes), LastFirst()))
    np.testing.assert_array_equal(first["output"], last["output"])
