"""Streams: the same numbers for the same step, whatever came before."""

from __future__ import annotations

import numpy as np

from cnnspec.plan.state import Stream


def test_numbers_depend_on_seed_layer_shard_and_step_alone() -> None:
    clock = np.array(5)
    first, second = np.empty(1000, np.float32), np.empty(1000, np.float32)
    Stream(0, "a", 0, clock).uniform(first)
    stream = Stream(0, "a", 0, clock)
    for step in (1, 2, 9, 5):
        clock[...] = step
        stream.uniform(second)
    np.testing.assert_array_equal(first, second)
    for other in (Stream(1, "a", 0, clock), Stream(0, "b", 0, clock), Stream(0, "a", 1, clock)):
        other.uniform(second)
        assert not np.any(first == second)
    clock[...] = 6
    stream.uniform(second)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
