"""Steps that kernels have in common, on views with gaps, turned axes and none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspec.kernels.blocks import product
from cnnspec.kernels.elementwise import argmax_channel, copy
from cnnspec.kernels.step import Array


def views(data: st.DataObject, shape: tuple[int, ...], name: str) -> Array:
    """An array of that shape somewhere in a larger one, with its axes in any order in memory."""
    order = data.draw(st.permutations(range(len(shape))), label=f"order of {name}")
    gaps = [data.draw(st.sampled_from([0, 0, 1]), label=f"gap of {name}") for _ in shape]
    memory = np.full([shape[axis] + gap for axis, gap in zip(order, gaps, strict=True)], -1.0, np.float32)
    inner = memory[tuple(slice(0, shape[axis]) for axis in order)]
    return inner.transpose(np.argsort(order))


@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple))
def test_a_copy_is_whole_and_touches_nothing_else(data: st.DataObject, shape: tuple[int, ...]) -> None:
    source, target = views(data, shape, "source"), views(data, shape, "target")
    values = np.arange(source.size, dtype=np.float32).reshape(shape)
    source[...] = values
    copy(source, target)()
    np.testing.assert_array_equal(target, values)
    np.testing.assert_array_equal(source, values)
    around = target.base
    assert around is None or around.sum() == values.sum() - (around.size - values.size)


@pytest.mark.parametrize("types", [(np.uint8, np.float32), (np.float32, np.float64)])
def test_a_copy_to_another_type_converts(types: tuple[type, type]) -> None:
    source: Array = np.arange(24).reshape(2, 3, 4).astype(types[0])
    target: Array = np.zeros((2, 3, 4), types[1])
    copy(source, target)()
    np.testing.assert_array_equal(target, source)


def test_rows_that_overlap_and_rows_that_repeat_are_copied() -> None:
    row = np.arange(8, dtype=np.float32)
    windows, target = np.lib.stride_tricks.sliding_window_view(row, 5), np.zeros((4, 5), np.float32)
    copy(windows, target)()
    np.testing.assert_array_equal(target, [row[i : i + 5] for i in range(4)])
    copy(np.broadcast_to(row[:5], (4, 5)), target)()
    np.testing.assert_array_equal(target, [row[:5]] * 4)


@given(st.data(), st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from([(), (1,), (3,), (1, 1), (2, 1)]))
def test_products_of_any_views(data: st.DataObject, sides: tuple[int, int, int], stack: tuple[int, ...]) -> None:
    m, k, n = sides
    a, b, out = (views(data, (*stack, *shape), name) for name, shape in (("a", (m, k)), ("b", (k, n)), ("out", (m, n))))
    random = np.random.default_rng(0)
    a[...], b[...] = random.standard_normal(a.shape), random.standard_normal(b.shape)
    expected = np.einsum("...mk,...kn->...mn", a.astype(np.float64), b.astype(np.float64))
    product(a, b, out)()
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_likeliest_is_the_first_of_the_largest(channels: int) -> None:
    scores = np.random.default_rng(0).integers(0, 3, (4, channels, 3, 6)).astype(float)
    out = np.full((4, 3, 6), -1)
    argmax_channel(scores, out)()
    np.testing.assert_array_equal(out, scores.argmax(axis=1))
