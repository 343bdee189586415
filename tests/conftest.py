"""Where the data sets for tests are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Examples may take as long as the machine likes, and no file is written: the folder may be read-only.
settings.register_profile("anywhere", deadline=None, database=None)
settings.load_profile("anywhere")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with MNIST and Fashion-MNIST; the test is skipped where there is none."""
    folder = Path(os.environ.get("CNNSPEC_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no data sets in {folder}; name their folder in CNNSPEC_TEST_DATA")
    return folder
