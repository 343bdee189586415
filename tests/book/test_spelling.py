"""What readers see is spelt right: the README, the package with its guide, the specs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_codespell_finds_nothing() -> None:
    if importlib.util.find_spec("codespell_lib") is None:
        pytest.skip("codespell is not here: it is in the extra `lint`")
    command = [sys.executable, "-m", "codespell_lib", "README.md", "cnnspec", "specs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
