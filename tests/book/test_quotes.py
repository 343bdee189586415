"""What pages quote is the code that runs, and what they show is what their programs print."""

from __future__ import annotations

import pytest

from tests.book.pages import NAMES, text
from tests.book.quotes import PRINTED, QUOTE, printed, quoted

WRITE = "python -m tests.book writes it"


@pytest.mark.parametrize("name", [name for name in NAMES if QUOTE.search(text(name))])
def test_quotations_are_the_source(name: str) -> None:
    assert text(name) == quoted(text(name)), WRITE


@pytest.mark.parametrize("name", [name for name in NAMES if PRINTED.search(text(name))])
def test_programs_print_what_is_shown(name: str) -> None:
    assert text(name) == printed(text(name)), WRITE


def test_the_page_on_networks_has_code_for_each_kind_of_layer() -> None:
    assert {found[3].rpartition(".")[2] for found in QUOTE.finditer(text("network"))} >= {
        *("conv2d", "max_pool2d", "softmax", "batch_norm", "forward", "backward", "derivative", "bind")
    }
    assert len(PRINTED.findall(text("network"))) >= 5


def test_the_glossary_is_in_order() -> None:
    words = [line.split("|")[1].strip().lower() for line in text("glossary").splitlines() if line.startswith("| ")]
    assert words[1:] == sorted(words[1:])
    assert len(words) > 40
