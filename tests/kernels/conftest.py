"""Kernels as they are on either kind of machine, whatever this one is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnspec.kernels import blocks, choice


@pytest.fixture(params=["wide", "other"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Blocks and prices with AVX-512 ("wide") and without."""
    limits, prices = (blocks.WIDE, choice.WIDE) if request.param == "wide" else (blocks.OTHER, choice.OTHER)
    for name, limit in zip(("SMALL", "SMALL_OUTPUT", "FEW"), limits, strict=True):
        monkeypatch.setattr(blocks, name, limit)
    monkeypatch.setattr(choice, "PRICES", prices)
    for cached in (choice.cheapest, choice.choose):
        cached.cache_clear()
    yield request.param
    for cached in (choice.cheapest, choice.choose):
        cached.cache_clear()
