"""Offsets in the arena: arrays that live at once never overlap, and the arena is no longer than it must be."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnspec.plan.memory import ALIGNMENT, Claim, place, shared, view

FLOAT = np.dtype(np.float32)


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    made = []
    for _ in range(draw(st.integers(0, 25))):
        first = draw(st.integers(0, 20))
        made.append(Claim((draw(st.integers(1, 500)),), FLOAT, first, first + draw(st.integers(0, 10))))
    return made


@given(claims())
def test_arrays_alive_at_once_never_overlap(wanted: list[Claim]) -> None:
    placement = place(wanted)
    for i, one in enumerate(wanted):
        assert placement.offsets[i] % ALIGNMENT == 0
        assert placement.offsets[i] + one.size <= placement.size
        for j, other in enumerate(wanted[:i]):
            if one.first <= other.last and other.first <= one.last:
                a, b = placement.offsets[i], placement.offsets[j]
                assert a + one.size <= b or b + other.size <= a


@given(claims())
def test_size_lies_between_the_peak_and_the_sum(wanted: list[Claim]) -> None:
    peak = max((sum(c.size for c in wanted if c.first <= t <= c.last) for t in range(31)), default=0)
    assert peak <= place(wanted).size <= sum(claim.size for claim in wanted)


def test_arrays_one_after_the_other_share_their_bytes() -> None:
    chain = [Claim((100,), FLOAT, t, t + 1) for t in range(10)]
    assert place(chain).size == 2 * chain[0].size


def test_a_view_lies_where_it_was_placed() -> None:
    claim = Claim((3, 5), FLOAT, 0, 0)
    region = shared((1024,))
    array = view(region, 128, claim)
    assert array.shape == (3, 5)
    assert array.ctypes.data == region.ctypes.data + 128
    assert array.ctypes.data % ALIGNMENT == 0
