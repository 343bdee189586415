"""Cases of a test of which some always run, and the others with `-m slow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

Case = TypeVar("Case")


def sampled(cases: Iterable[Case], every: int) -> list[Case | ParameterSet]:
    """The first case and each so many behind it as they are, the rest marked slow."""
    return [case if not number % every else slow(case) for number, case in enumerate(cases)]


def slow(*values: object) -> ParameterSet:
    """A case that runs with `-m slow` alone."""
    return pytest.param(*values, marks=pytest.mark.slow)
