"""Where the data sets for tests are, and on which processor each process of the tests runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# Examples may take as long as the machine likes, and are the same ones in every run, so that none fails by chance; no
# file is written: the folder may be read-only.
settings.register_profile(
    "anywhere", deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("anywhere")


def pytest_configure() -> None:
    """Give each process of tests that run beside each other a processor of its own.

    A training takes a worker for each processor that it may use, and workers wait for each other at every barrier:
    those of several tests on the same processors would wait for the scheduler. Tests that need more workers ask for
    them.
    """
    process = os.environ.get("PYTEST_XDIST_WORKER")
    if process is not None and hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {usable[int(process.removeprefix("gw")) % len(usable)]})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with MNIST and Fashion-MNIST; the test is skipped where there is none."""
    folder = Path(os.environ.get("CNNSPEC_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no data sets in {folder}; name their folder in CNNSPEC_TEST_DATA")
    return folder
