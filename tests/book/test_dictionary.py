"""The page of words: its tables are those of the one table of words, and its networks are one network."""

from __future__ import annotations

import re
from typing import Any

import pytest

import cnnspec
from tests.book.dictionary import BEGIN, PAGE, PLACES, tables

TEXT = PAGE.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SPEC = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]


def test_the_tables_are_those_of_the_words() -> None:
    assert TEXT[TEXT.index(BEGIN) :] == tables(), "python -m tests.book writes them"


def test_every_place_with_advice_has_a_heading() -> None:
    assert list(dict.fromkeys(PLACES)) == list(PLACES)
    assert all(f"### {heading}\n" in TEXT for heading in PLACES.values())


def parameters() -> int:
    return sum(values.size for values in cnnspec.compile(SPEC).params.values())


def test_the_network_in_pytorch_is_that_of_the_spec() -> None:
    pytest.importorskip("torch", reason="PyTorch is not here")
    names: dict[str, Any] = {}
    exec(compile(PYTHON[0], "guide/words.md", "exec"), names)
    assert sum(values.numel() for values in names["network"].parameters()) == parameters()


def test_the_network_in_keras_is_that_of_the_spec() -> None:
    pytest.importorskip("keras", reason="Keras is not here")
    names: dict[str, Any] = {}
    exec(compile(PYTHON[1], "guide/words.md", "exec"), names)
    assert names["network"].count_params() == parameters()
