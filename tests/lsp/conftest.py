"""A running server, one for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lsp.editor import Editor


@pytest.fixture(scope="session")
def editor() -> Iterator[Editor]:
    """An editor with the server attached; skipped where pytest-lsp or pygls is not installed."""
    pytest.importorskip("pytest_lsp", reason="pytest-lsp and pygls are not installed: pip install 'cnnspec[test]'")
    from tests.lsp.editor import Editor

    editor = Editor()
    yield editor
    editor.close()
