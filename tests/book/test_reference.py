"""The reference has all that is registered, in the words of its docstrings."""

from __future__ import annotations

from tests.book.reference import PAGE, reference


def test_the_page_is_what_is_registered() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "python -m tests.book writes it"
