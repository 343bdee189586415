"""The guide hangs together: links lead to headings that are there, each page says where to go next, none is alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.book.pages import NAMES, text

LINK = re.compile(r"\]\(([\w./-]*?)(?:#([\w-]+))?\)")
ENDS = {"changelog"}  # pages that are looked up


def links(name: str) -> Iterator[tuple[str, str | None]]:
    """Where a page's links lead: a page, itself by default, and a heading on it."""
    for found in LINK.finditer(text(name)):
        yield found[1].removesuffix(".md") or name, found[2]


def headings(name: str) -> set[str]:
    """The headings of a page as the fragments of links to them."""
    found = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text(name), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_headings(name: str) -> None:
    for page, heading in links(name):
        assert heading is None or heading in headings(page), f"{page}#{heading}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ENDS])
def test_a_page_says_where_to_go_next(name: str) -> None:
    last = text(name).rpartition("Where to go next: ")[2]
    assert LINK.search(last)


def test_every_page_is_linked_from_another() -> None:
    linked = {page for name in NAMES for page, _ in links(name) if page != name}
    assert set(NAMES) - linked <= ENDS
