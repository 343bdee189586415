"""Batches: every image once an epoch, in an order of the seed and the epoch alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnspec.data import Order


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 5), st.integers(0, 5))
def test_every_image_comes_once(count: int, batch: int, seed: int, epoch: int) -> None:
    batches = list(Order(count, batch, seed).epoch(epoch))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert all(len(indices) == batch for indices in batches[:-1])


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(i) for indices in Order(100, 7, seed).epoch(epoch) for i in indices]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
