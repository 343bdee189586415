"""Architectures that are not in specs/, said in the language: each has the parameters and MACs that were published.

Every file names its source, and holds the figures under `expect`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspec.check import checked
from cnnspec.lints import lint
from cnnspec.spec import load

FILES = sorted((Path(__file__).parent / "architectures").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_language_says_it_briefly(path: Path) -> None:
    spec = load(path)
    graph = checked(spec)
    assert "params" in spec.expect
    assert not spec.warnings
    assert not lint(spec, graph)
    assert len(path.read_text().splitlines()) < 90
