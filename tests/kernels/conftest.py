"""Kernels as they are on either kind of machine, whatever this one is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnspec.kernels import blocks, cost


@pytest.fixture(params=["wide", "other"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Blocks and prices with AVX-512 ("wide") and without."""
    limits, prices = (blocks.WIDE, cost.WIDE) if request.param == "wide" else (blocks.OTHER, cost.OTHER)
    for name, limit in zip(("SMALL", "SMALL_OUTPUT", "FEW"), limits, strict=True):
        monkeypatch.setattr(blocks, name, limit)
    monkeypatch.setattr(cost, "PRICES", prices)
    for cached in (cost.cheapest, cost.choose):
        cached.cache_clear()
    yield request.param
    for cached in (cost.cheapest, cost.choose):
        cached.cache_clear()
