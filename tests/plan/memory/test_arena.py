"""Offsets in the arena: arrays that live at once never overlap, and the arena is no longer than it must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspec.api import Model
from cnnspec.graph import build
from cnnspec.plan.memory.arena import ALIGNMENT, Claim, place, view
from cnnspec.plan.memory.footprint import training_footprint
from cnnspec.spec import loads
from cnnspec.workers import shared

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


def test_sizes_beyond_all_machines_are_added_up_exactly() -> None:
    wanted = [Claim((10**18, 10), FLOAT, 0, 1), Claim((7,), FLOAT, 1, 2), Claim((10**18, 10), FLOAT, 2, 3)]
    assert place(wanted).size == 4 * 10**19 + ALIGNMENT


def test_a_view_lies_where_it_was_placed() -> None:
    claim = Claim((3, 5), FLOAT, 0, 0)
    region = shared((1024,))
    array = view(region, 128, claim)
    assert array.shape == (3, 5)
    assert array.ctypes.data == region.ctypes.data + 128
    assert array.ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize("more", ["", "accumulate: 2", "ema: 0.9", "ema: 0.9, accumulate: 3"])
def test_what_training_keeps_is_foretold(more: str) -> None:
    layers = "[flatten, {type: dense, units: 64}, {type: dense, units: 16}]"
    optimizer = "optimizer: {type: adam}"
    train = ", ".join(["epochs: 1", optimizer, *([more] if more else [])])
    spec = loads(f"cnnspec: 1\nname: net\ninput: [1, 4, 4]\nlayers: {layers}\ntrain: {{{train}}}\n")
    assert spec.train is not None
    model = Model(spec, build(spec), threads=1)
    model.plan(64, "train")
    assert model.training is not None
    foretold = training_footprint(model.graph, 64, spec.train)
    for bytes_foretold, arrays in (
        (foretold.slots, [*model.training.slots.values()]),
        (foretold.gradients, model.training.gradients),
    ):
        held = sum(array.nbytes for array in arrays)
        assert bytes_foretold <= held < 1.1 * bytes_foretold  # parameters begin at cache lines
