"""Parts of a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec.layers.selection import Slice
from cnnspec.shapes import ShapeError
from tests.layers.harness import Bench


@pytest.mark.parametrize("part", [1, 2, 3])
def test_parts_are_of_equal_length_and_counted_from_one(part: int) -> None:
    bench = Bench(Slice.of(channels={"part": part, "of": 3}), [(6, 2, 4)])
    np.testing.assert_array_equal(bench.forward(), np.split(bench.inputs[0], 3, axis=1)[part - 1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part": 1}, "expected part and of together"),
        ({"part": 1, "of": 2, "step": 2}, "expected part and of together"),
        ({"part": 1, "of": 4}, "got 4 parts of 6"),
        ({"part": 3, "of": 2}, "got part 3 of 2"),
    ],
)
def test_parts_that_there_are_not(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        Slice.of(channels=given).infer_shape((6, 2, 4))
    assert caught.value.field == "channels"
