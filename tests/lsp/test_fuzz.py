"""Whatever is typed, deleted or pasted: no exception, in any answer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("lsprotocol.types", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

from tests.spec.test_bad import FILES

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))
SHORT = ("key-case", "block-inner-value", "from-misspelt", "expect-params", "duplicate-in-flow", "extends-itself")


def fuzz(path: Path, step: int, edits: int) -> None:
    """Type a file, and then mangle it, with all questions at the place of each change."""
    from tests.lsp.typing import ask_everything, mangled, opened, typed

    text = path.read_text(encoding="utf-8", errors="replace")
    rng = random.Random(len(text))
    documents, document = opened(path.with_name("typed.yaml").as_uri(), "")
    for version in typed(text, step):
        documents.put(document.uri, version, 1)
        ask_everything(documents, document, len(version))
    for version in mangled(text, rng, edits):
        documents.put(document.uri, version, 1)
        ask_everything(documents, document, rng.randrange(len(version) + 1))
    documents.close(document.uri)


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in SHORT], ids=lambda path: path.stem)
def test_a_bad_file_is_typed_and_mangled(path: Path) -> None:
    fuzz(path, step=3, edits=30)


def test_a_spec_is_typed_and_mangled() -> None:
    fuzz(Path(__file__).parents[2] / "specs" / "lenet.yaml", step=7, edits=30)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_bad_file_is_typed_character_by_character(path: Path) -> None:
    fuzz(path, step=1, edits=100)


@pytest.mark.slow
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_is_typed_seven_characters_at_a_time(path: Path) -> None:
    fuzz(path, step=7, edits=100)  # one by one takes seven times as long
