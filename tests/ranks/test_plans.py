"""Any number of ranks computes the same bits as one process, with any number of workers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cnnspec.graph import build
from cnnspec.plan import Entry, Training, Weights, lower
from cnnspec.plan.schedule.buckets import LEAST, cut, segments
from cnnspec.plan.schedule.partition import images_of_ranks, ranks_of
from cnnspec.plan.state import AllReduce, tree_sum
from cnnspec.plan.state.all_reduce import blocks
from cnnspec.ranks import SINGLE_RANK, Exchange
from cnnspec.spec import loads
from cnnspec.workers import WorkerPool
from tests.ranks.local import on_ranks

RESIDUAL = """
cnnspec: 1
name: residual
input: [2, 10, 10]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: half, bias: none}
  - batch_norm
  - relu
  - {type: residual, body: [{type: conv2d, filters: 6, kernel_size: 3, padding: half}, batch_norm, relu]}
  - {type: max_pool2d, kernel_size: 2}
  - flatten
  - {type: dropout, rate: 0.3}
  - {id: wide, type: dense, units: 200}
  - relu
  - {type: dense, units: 4}
train:
  optimizer: {type: adamw, learning_rate: 0.01, weight_decay: 0.1}
  batch_size: 130
  epochs: 1
  accumulate: 2
  ema: 0.9
  clip: {norm: 0.05}
"""
PLAIN = """
cnnspec: 1
name: plain
input: [2, 10, 10]
layers:
  - {type: conv2d, filters: 7, kernel_size: 3}
  - tanh
  - {type: max_pool2d, kernel_size: 2}
  - flatten
  - {id: first, type: dense, units: 130}
  - {id: second, type: dense, units: 130}
  - {type: dense, units: 130, share: second}
  - {type: dense, units: 4}
train: {optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9}, batch_size: 130, epochs: 1, clip: {value: 0.01}}
"""


def trained(text: str, batches: list[int], workers: int = 1) -> Callable[[Exchange], list[bytes]]:
    """What does a few steps on any rank and returns the bytes of all that training changes."""

    def work(exchange: Exchange) -> list[bytes]:
        spec = loads(text)
        assert spec.train is not None
        graph, settings = build(spec), spec.train
        weights = Weights(graph, getattr(settings.optimizer, "weight_decay", 0.0))
        weights.initialise(1)
        training = Training(
            weights, settings.optimizer, clip=settings.clip, accumulate=settings.accumulate, average=settings.ema
        )
        pool, random, losses = WorkerPool(workers), np.random.default_rng(0), []
        plans = {
            batch: lower(
                graph,
                batch,
                "train",
                weights,
                pool,
                entry=Entry("float32"),
                loss=settings.loss,
                training=training,
                exchange=exchange,
            )
            for batch in set(batches)
        }
        for batch in batches:
            images = random.standard_normal((batch, *graph.input_shape)).astype(np.float32)
            labels = random.integers(0, 4, batch)
            plan, own = plans[batch], images_of_ranks(batch, exchange.size)[exchange.rank]
            plan.images[...] = images[own]
            plan.labels[...] = labels[own]
            plan.step(0.01)
            losses.append(plan.losses.tobytes())
        return [
            *losses,
            *(array.tobytes() for array in (*dict(weights.arrays()).values(), *training.arrays().values())),
        ]

    return work


@pytest.mark.parametrize("text", [RESIDUAL, PLAIN], ids=["residual", "plain"])
@pytest.mark.parametrize(
    ("ranks", "workers", "late"),
    [
        (2, 1, False),
        (2, 2, True),
        (3, 1, True),
        (3, 2, False),
        (4, 1, True),
        pytest.param(4, 2, False, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_ranks_and_workers_computes_the_same_bits(
    text: str, ranks: int, workers: int, late: bool
) -> None:
    """Nor does it matter when arrays travel that an operation has on their way: as it begins, or as it ends."""
    batches = [130, 130, 99, 20]  # of four shards, of three, and of one, which every rank computes by itself
    alone = trained(text, batches)(SINGLE_RANK)
    for rank, found in enumerate(on_ranks(ranks, trained(text, batches, workers), late=late)):
        assert found == alone, f"rank {rank} of {ranks} has other bits"


def test_a_rank_computes_its_own_images_only() -> None:
    def images(exchange: Exchange) -> int:
        spec = loads(PLAIN)
        assert spec.train is not None
        graph = build(spec)
        weights = Weights(graph)
        state = Training(weights, spec.train.optimizer)
        pool, loss = WorkerPool(1), spec.train.loss
        plan = lower(graph, 130, "train", weights, pool, loss=loss, training=state, exchange=exchange)
        return len(plan.images)

    assert on_ranks(3, images) == [32, 33, 65]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_ranks_have_neighbouring_shards_as_evenly_as_it_goes(count: int) -> None:
    for ranks in range(1, count + 1):
        found = ranks_of(count, ranks)
        assert [shard for shards in found for shard in shards] == list(range(count))
        assert max(map(len, found)) - min(map(len, found)) <= 1
    assert ranks_of(count, count + 1) == (range(count),)
    assert images_of_ranks(20, count + 1) == (slice(0, 20),) * (count + 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_sum_over_ranks_has_the_bits_of_the_sum_over_shards(count: int, ranks: int) -> None:
    """Numbers of very different sizes: any other order of the additions gives other bits."""
    random = np.random.default_rng(count)
    arrays = [random.standard_normal(50).astype(np.float32) * 10.0**size for size in random.integers(-6, 6, count)]
    expected = [array.copy() for array in arrays]
    tree_sum(expected)()
    divided = ranks_of(count, ranks)
    if len(divided) != ranks:
        return

    def work(exchange: Exchange) -> bytes:
        own = [arrays[shard].copy() for shard in divided[exchange.rank]]
        for step in AllReduce(divided, exchange).steps(own):
            step()
        return bytes(own[0].data)

    for found in on_ranks(ranks, work) if ranks > 1 else [work(SINGLE_RANK)]:
        assert found == expected[0].tobytes()


def test_blocks_are_the_nodes_of_the_tree() -> None:
    assert blocks(range(8), 8) == [range(8)]
    assert blocks(range(3), 8) == [range(2), range(2, 3)]
    assert blocks(range(1, 6), 8) == [range(1, 2), range(2, 4), range(4, 6)]
    assert blocks(range(4, 7), 7) == [range(4, 7)]  # the last node of the tree is shorter
    assert blocks(range(6), 7) == [range(4), range(4, 6)]


def test_segments_cut_no_range_that_one_task_makes() -> None:
    assert segments((0, 128), 2) == [(0, 64), (64, 128)]
    assert segments((0, 128), 2, [(32, 80), (80, 112)]) == [(0, 80), (80, 128)]
    assert segments((0, 0), 2) == [(0, 0), (0, 0)]
    assert segments((0, 128), 3, [(0, 128)]) == [(0, 0), (0, 128), (128, 128)]


def test_buffers_end_where_much_is_complete_before_the_rest() -> None:
    """From the end of the flat gradient on, where the last layers lie, which the backward pass begins with."""
    n = LEAST
    even = [(0, 3), (n, 2), (2 * n, 1), (3 * n, 0)]
    assert cut(even, 4 * n) == [(2 * n, 4 * n), (0, 2 * n)]
    assert cut(even, 4 * n, together=[(n, 3 * n)]) == [(n, 4 * n), (0, n)]
    assert cut([(0, 1), (16, 1), (n, 0)], n + 16) == [(0, n + 16)]  # too few elements travel by themselves
    assert cut([(0, 1), (n, 1), (5 * n, 0)], 9 * n) == [(5 * n, 9 * n), (0, 5 * n)]
    assert cut([(0, 0), (16, 0)], 9 * n) == [(0, 9 * n)]  # all is complete at once
    assert cut([], 0) == [(0, 0)]
