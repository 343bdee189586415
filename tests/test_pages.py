"""Pages of `explain`: each key that a spec can have, examples that validate, topics by group, near ones."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec import registry
from cnnspec.cli import main
from cnnspec.code import code
from cnnspec.layers.pool import MaxPool2d
from cnnspec.pages import GUIDE, NESTED, SECTIONS, contents, page, topics
from cnnspec.spec.schema import schema

Captured = pytest.CaptureFixture[str]
SMALL = "cnnspec: 1\ninput: [1, 8, 8]\nlayers: [flatten, {type: dense, units: 10}]\n"
MAP = "cnnspec: 1\ninput: [1, 14, 14]\nlayers:\n"
PAIR = """\
  - {id: a, type: conv2d, filters: 4, kernel_size: 3, padding: same}
  - {id: b, type: conv2d, filters: 4, kernel_size: 3, padding: same}
"""


def properties(part: Any) -> Iterator[str]:
    """The names of all keys in a JSON schema."""
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict):
            yield from part["properties"]
        for inner in part.values():
            yield from properties(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from properties(inner)


def test_every_key_of_a_spec_has_a_page() -> None:
    keys = set(properties(schema()))
    assert len(keys) > 150
    assert {key for key in keys if key not in (page(key) or "")} == set()


def test_a_key_says_where_it_stands_and_what_it_means() -> None:
    told = page("fold")
    assert told is not None
    assert told.splitlines() == ["fold (key)", "  of data.validation: which of the folds validates, from 1"]
    assert "of pad2d: which pixels the margins are made of" in str(page("mode"))
    assert "of require: " in str(page("test.f1"))


@pytest.mark.parametrize("word", ["learning_rate", "lr", "base_lr", "LR"])
def test_a_word_of_another_framework_leads_to_the_key(word: str) -> None:
    assert "of sgd, momentum, nesterov, adam" in str(page(word))


def test_near_topics_are_suggested(capsys: Captured) -> None:
    for word, near in {"filtrs": "filters", "guide/pythn": "python", "patiance": "patience", "con2d": "conv2d"}.items():
        assert main(["explain", word]) == 2
        assert near in capsys.readouterr().err
    assert main(["explain", "zzzzzz"]) == 2
    assert "cnnspec explain lists all topics" in capsys.readouterr().err


def test_every_topic_has_a_page_and_is_listed() -> None:
    listed = set(re.findall(r"[\w<./-]+", contents()))
    for topic in topics():
        assert page(topic), topic
        assert topic in listed or f"guide/{topic}" in listed, topic


def test_the_list_of_the_guide_has_all_pages_once() -> None:
    names = [found.name for found in files("cnnspec").joinpath("guide").iterdir()]
    there = sorted(name.removesuffix(".md") for name in names if name.endswith(".md"))
    assert sorted(name for names in GUIDE.values() for name in names) == there


def examples() -> dict[str, str]:
    """The example of every type and section, by its kind and name."""
    named = [(kind, name) for kind in registry.PACKAGES for name in registry.table(kind)]
    found = {}
    for kind, name in [*named, *(("section", name) for name in SECTIONS)]:
        own = re.search(rf"^{name} \({kind}\).*?^Example: (.*?)$", page(name) or "", re.DOTALL | re.MULTILINE)
        assert own is not None, name
        found[f"{kind}.{name}"] = own[1]
    return found


def test_every_example_is_part_of_a_spec(tmp_path: Path, capsys: Captured) -> None:
    for name, example in examples().items():
        text = f"{SMALL}{example}\n"
        if name.startswith(("layer.", "initializer.")):
            above = PAIR if name.startswith("layer.") else ""
            above += "  - flatten\n" if "type: dense" in example else ""
            fitting = example.replace("[mean, log_variance]", "[a, b]").replace("[1, 28, 28]", "[4, 14, 14]")
            text = f"{MAP}{above}  {fitting}\n"
        text += "data: {source: {type: synthetic, shape: [1, 14, 14]}}\n" if "from_data" in example else ""
        (tmp_path / f"{name}.yaml").write_text(text)
    main(["validate", str(tmp_path), "--format", "concise"])
    found = re.findall(r"(\S+)\.yaml:\S+ error\[([\w-]+)\]", capsys.readouterr().out)
    fits_not = {"input-mismatch", "loss-mismatch", "output-mismatch", "missing-key"}  # this network or these data
    assert [(name, code) for name, code in found if code not in fits_not] == []


def test_the_code_of_a_layer_computes_what_the_layer_does(capsys: Captured) -> None:
    assert main(["explain", "max_pool2d", "--code"]) == 0
    program, _, layer = capsys.readouterr().out.partition("# cnnspec.layers.pool")
    names: dict[str, Any] = {"np": np, "functools": functools, "Array": Any, "Ints": Any}
    exec(program, names)
    model = cnnspec.compile("cnnspec: 1\ninput: [2, 6, 6]\nlayers: [{type: max_pool2d, kernel_size: 3, stride: 1}]\n")
    x = np.random.default_rng(0).random((3, 2, 6, 6), np.float32)
    assert np.array_equal(names["max_pool2d"](x, (3, 3), (1, 1)), model.predict(x))
    assert layer.strip().endswith(inspect.getsource(MaxPool2d).strip())


@pytest.mark.parametrize("kind", registry.PACKAGES)
def test_everything_that_is_registered_has_code(kind: str) -> None:
    for name, cls in registry.table(kind).items():
        assert f"class {cls.__name__}(" in str(code(name))


@pytest.mark.parametrize("name", NESTED)
def test_examples_of_layers_of_layers_validate(name: str, tmp_path: Path, capsys: Captured) -> None:
    example = str(page(name)).rpartition("Example: ")[2].replace("\n         ", "\n  ")
    (tmp_path / "spec.yaml").write_text(f"{MAP}{PAIR}  {example}\n")
    main(["validate", str(tmp_path / "spec.yaml")])
    assert "error" not in capsys.readouterr().out


def test_what_is_not_computed_has_no_code(capsys: Captured) -> None:
    assert main(["explain", "shape-mismatch", "--code"]) == 2
    assert "'shape-mismatch' is not computed" in capsys.readouterr().err
