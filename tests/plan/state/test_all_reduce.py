"""The sum of several arrays is right, in a fixed order."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.plan.state import tree_sum


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_tree_sum_adds_all_in_a_fixed_order(count: int) -> None:
    parts = np.random.default_rng(count).standard_normal((count, 100)).astype(np.float32)
    expected = parts.astype(np.float64).sum(0)
    tree_sum(list(parts))()
    np.testing.assert_allclose(parts[0], expected, rtol=1e-5, atol=1e-6)
