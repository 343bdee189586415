"""All code in the README and the guide: commands that exist, specs that validate, files that parse, programs that run.

What other tests run is not repeated: the guide's Python (test_guide_python), plugins (test_plugins), converting
(cli/test_convert), exports (cli/test_export), language (spec/test_guide); here is what is left, and that nothing is.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cnnspec.cli import VERBS, main, parsers
from tests.book.pages import NAMES, commands, parts, text

Captured = pytest.CaptureFixture[str]
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PAGES = {**{f"guide/{name}": text(name) for name in NAMES}, "README": README}
RUN_ELSEWHERE = {"convert", "network", "pictures", "plugins", "python", "words"}
MADE_OF_PARTS = {"language"}  # examples that leave out what is as above
WHOLE_SPEC = re.compile("^cnnspec:", re.MULTILINE)


def options(parser: argparse.ArgumentParser) -> set[str]:
    """All options that a verb takes, those of verbs within it too."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for inner in action.choices.values() for option in options(inner)}
    return found


def mentions(page: str) -> Iterator[str]:
    """Commands in running text, which may leave out what they are about."""
    for found in re.finditer(r"`cnnspec ([a-z][^`]*)`", page.replace("\n", " ")):
        yield found[1]


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    typed = [shlex.split(re.split("[|>]", command)[0])[1:] for part in parts(PAGES[page]) for command in commands(part)]
    for words in typed:
        parser, _ = parsers({words[0]})
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"cnnspec {shlex.join(words)}")
    for mention in mentions(PAGES[page]):
        verb, *words = mention.split()
        assert verb in VERBS, mention
        own = options(parsers({verb})[1][verb])
        assert {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1} <= own, mention


@pytest.mark.parametrize("page", [name for name in NAMES if name not in MADE_OF_PARTS])
def test_files_are_what_they_say(page: str, tmp_path: Path, capsys: Captured) -> None:
    for number, part in enumerate(parts(text(page))):
        match part.language:
            case "yaml" if WHOLE_SPEC.search(part.text):
                spec = tmp_path / f"{number}.yaml"
                spec.write_text(part.text)
                assert main(["validate", str(spec), "--strict"]) == 0, capsys.readouterr().out
            case "yaml":
                yaml.safe_load(part.text)
            case "json":
                json.loads(part.text)
            case "toml":
                tomllib.loads(part.text)
            case "python":
                compile(part.text, f"guide/{page}.md", "exec")


def test_programs_on_ones_own_data_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not here")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(9):
        folder = Path("pets", f"class_{number % 3}")
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    page = list(parts(text("data")))
    spec = next(part.text for part in page if part.language == "yaml" and WHOLE_SPEC.search(part.text))
    Path("pets.yaml").write_text(spec.replace("epochs: 15", "epochs: 1"))
    pixels = random.integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)
    names: dict[str, Any] = {"pixels": pixels, "images": pixels, "numbers": pixels.astype(np.float32) / 255}
    names |= {"ages": random.random((4, 3)), "labels": np.arange(4) % 3, "y": np.arange(4) % 3}
    for part in page:
        if part.language == "python":
            exec(compile(part.text, "guide/data.md", "exec"), names)
    assert Path("train.npz").is_file()


def test_no_program_of_the_guide_is_left_out() -> None:
    with_programs = {name for name in NAMES if any(part.language == "python" for part in parts(text(name)))}
    assert with_programs == RUN_ELSEWHERE | {"data"}
