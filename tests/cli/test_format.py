"""`format`: a canonical layout that keeps values and comments, and that formatting again leaves alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.diagnostics import SpecError
from cnnspec.spec.layout import formatted
from cnnspec.spec.reader import read
from cnnspec.spec.tree import plain
from tests.spec.test_bad import FILES

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))
MESSY = """cnnspec: 1
input:   [ 1,8 , 8 ]   


#a comment
vars:
    a:  3
    b: "x,y:  z"
layers:
- flatten
# the last
- {type: dense,units: 10 ,  bias: none }   # of all
-   type: residual
    body:
    - {type: dense,
       units: 10}
    - relu


"""  # noqa: W291
NEAT = """cnnspec: 1
input: [1, 8, 8]

# a comment
vars:
  a: 3
  b: "x,y:  z"
layers:
  - flatten
  # the last
  - {type: dense, units: 10, bias: none}   # of all
  - type: residual
    body:
      - {type: dense,
         units: 10}
      - relu
"""


def test_the_layout() -> None:
    assert formatted(MESSY, "spec") == NEAT
    assert formatted(NEAT, "spec") == NEAT
    assert formatted(MESSY.replace("\n", "\r\n"), "spec") == NEAT.replace("\n", "\r\n")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_laid_out_so(path: Path) -> None:
    assert formatted(path.read_text(), str(path)) == path.read_text()


def messed(text: str) -> str:
    """The same values in another layout: wide brackets, and twice the indentation."""
    lines = [" " * (len(line) - len(line.lstrip())) + line for line in text.split("\n")]
    return "\n".join(
        line if "#" in line or "'" in line or '"' in line else line.replace(", ", " ,  ") for line in lines
    )


@pytest.mark.parametrize("path", [*SPECS, *FILES], ids=lambda path: path.stem)
def test_values_and_comments_stay(path: Path) -> None:
    text = messed(path.read_text(encoding="utf-8", errors="replace"))
    try:
        before = plain(read(text, "spec"))
    except SpecError:
        pytest.skip("it is not YAML")
    after = formatted(text, "spec")
    assert plain(read(after, "spec")) == before
    assert formatted(after, "spec") == after
    assert re.findall(r"#.*?(?=\s*$)", text, re.MULTILINE) == re.findall(r"#.*?(?=\s*$)", after, re.MULTILINE)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(MESSY)
    assert main(["format", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().out == f"would format {path}\nwould format 1 of 1 file\n"
    assert main(["format", str(path), "--diff"]) == 0
    assert "-input:   [ 1,8 , 8 ]" in capsys.readouterr().out
    assert path.read_text() == MESSY
    assert main(["format", str(path)]) == 0
    assert path.read_text() == NEAT
    assert main(["format", str(path), "--check"]) == 0
    path.write_text("cnnspec: [1\n")
    assert main(["format", str(path)]) == 1
    assert "yaml-syntax" in capsys.readouterr().out
