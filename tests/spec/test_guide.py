"""The guide to the language: every example of it validates, and `explain` prints its sections."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.pages import sections
from cnnspec.spec.layers import COMMON, OPTIONS, USE
from cnnspec.spec.load import KEYS

GUIDE = files("cnnspec").joinpath("guide", "language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
NAMED = re.compile(r"# (\S+\.yaml)\n")
REST = {  # what a part of a spec leaves out
    "cnnspec": "cnnspec: 1\n",
    "input": "input: [3, 32, 32]\n",
    "layers": "layers: [flatten, {type: dense, units: 10}]\n",
}


def whole(example: str) -> str:
    """A spec of a part of one; digits, which some train on, have one channel and 8 rows and columns."""
    given = set(re.findall(r"^(\w+):", example, re.MULTILINE))
    given |= {"input"} & {key.removesuffix("s") for key in given}
    text = "".join(line for key, line in REST.items() if key not in given)
    return (text.replace("[3, 32, 32]", "[1, 8, 8]") if "source: digits" in example else text) + example


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_validates(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for example in EXAMPLES:
        name = NAMED.match(example)
        if name is not None:
            (tmp_path / name[1]).write_text(example)
    path = tmp_path / "spec.yaml"
    path.write_text(EXAMPLES[number] if "extends" in EXAMPLES[number] else whole(EXAMPLES[number]))
    ignored = ["--ignore", "unused-id", "--ignore", "bias-before-norm"]
    assert main(["validate", str(path), "--strict", *ignored]) == 0, capsys.readouterr().out


def test_there_are_many_examples() -> None:
    assert len(EXAMPLES) >= 18


TOPICS = (
    "use repeat when vars index from share expect require input inputs layers blocks extends preprocess augment "
    "optimizer loss losses"
)


@pytest.mark.parametrize("topic", TOPICS.split())
def test_a_word_of_the_language_has_a_page(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", topic]) == 0
    page = capsys.readouterr().out
    assert topic in page.splitlines()[0]
    assert len(page.splitlines()) > 5
    assert "```yaml" in page


def test_every_key_of_the_language_is_in_the_guide() -> None:
    assert {*KEYS, *COMMON, *OPTIONS, *USE} - {"type", "weight_decay"} <= set(sections())


@pytest.mark.parametrize("kind", ["layer", "loss", "optimizer", "schedule", "source", "transform", "augmentation"])
def test_a_kind_lists_what_there_is(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", kind]) == 0
    assert "that there are:" in capsys.readouterr().out
