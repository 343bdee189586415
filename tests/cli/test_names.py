"""Names that try to steer what shows them: refused where they are written, or good in every verb and output."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import string
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from tests.samples import sampled

Image = pytest.importorskip("PIL.Image")

LAYERS = "layers: [flatten, {type: dense, units: 10}]\n"
DATA = "data: {source: {type: synthetic, shape: [1, 8, 8], train: 40, test: 10}}\ntrain: {epochs: 3, batch_size: 20}\n"
Captured = pytest.CaptureFixture[str]
NAMES = [  # of what a spec names, as texts in YAML
    "conv-bn",
    "conv bn",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "3x3",
    "_x",
    "a.b",
    "a..b",
    "../../x",
    "/etc/x",
    "-rf",
    "1e5",
    "0o7",
    "null",
    "true",
    "input",
    "y",
    "[/red]",
    ":smile:",
    "<b>&amp;",
    '\\"]--> n0',
    "%0A::error::forged",
    "a\\nb",
    "\\e[31m",
    "\\u202Eb",
    "\\x00",
    "x" * 100,
    "x" * 101,
    "x" * 70_000,
    "",
    " ",
    "a:b",
    "#a",
    "CON",
    "$a",
]
SPEC = """
cnnspec: 1
name: {name}
input: [1, 8, 8]
blocks: {{{block}: {{layers: [{{id: {inner}, type: conv2d, filters: 2, kernel_size: 3, activation: relu}}]}}}}
layers:
  - {{use: {block}, repeat: 2}}
  - {{type: residual, body: [relu]}}
  - flatten
  - {{id: {id}, type: dense, units: 10}}
{data}"""
FORMATS = ("full", "concise", "json", "jsonl", "github", "gitlab", "junit", "sarif")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


PARTS = ("name", "block", "inner", "id")
PIECES = (
    *("a", "Z", "conv", "7", "_", "-", ".", "..", "/", "../", "\\", " ", "(1)", "~", "$", "${a}", "%s", "{0}", "*"),
    *('"', "'", "`", "<zz>", "</zz>", "<script>zz()</script>", "&amp;", "&", "]]>", "--", "[/red]", "[bold]", ":x:"),
    *("\0", "\a", "\t", "\n", "\r\n", "\x1b[31m", "\x1b]0;t\a", "\x7f", "\x85", "\x9b1m", "\u2028", "\ufeff"),
    *("\u202e", "\u2066", "\u200d", "\u0301", "\u00e9", "\u03a9", "\u2603", "\U0001f600", "\ufffd", "\U000e0001"),
    *(
        "%0A::error::forged",
        "::error::forged",
        "null",
        "true",
        "1e5",
        "0x1",
        "=1+1",
        ",",
        ";",
        "#",
        "|",
        "@",
        "CON",
        "nul",
    ),
)


def generated(chances: random.Random) -> str:
    """A name of a few pieces, sometimes a long one."""
    count = chances.choice((1, 1, 2, 2, 3, 5, 8, 40))
    if chances.random() < 0.4:  # such as a name may be, more or less
        pieces = ("a", "Z", "conv", "7", "_", "-", ".", "b1", "CON", "nul", "x" * 30, chances.choice(PIECES))
        return "".join(chances.choices(pieces, k=count))
    return "".join(chances.choices(PIECES, k=count))


def quoted(name: str) -> str:
    """The name in double quotes as YAML reads it, whatever is in it."""
    plain = string.ascii_letters + string.digits
    return '"' + "".join(letter if letter in plain else f"\\U{ord(letter):08X}" for letter in name) + '"'


def harmless(said: str) -> None:
    """Nothing that a terminal or a host of code obeys."""
    assert not CONTROL.search(said)
    assert not re.search(r"^\s*::error::forged", said, re.MULTILINE)


class Tags(HTMLParser):
    """The elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def check(part: str, name: str, folder: Path, capsys: Captured) -> bool:
    """Whether a spec may have a part of that (quoted) name, in which case it is good in every verb and output."""
    path = folder / "spec.yaml"
    parts = {"name": '"net"', "block": '"b"', "inner": '"c"', "id": '"logits"', part: name}
    path.write_text(SPEC.format(**parts, data=DATA), encoding="utf-8")
    for kind in FORMATS:
        status = main(["validate", str(path), "--format", kind])
        said = capsys.readouterr().out
        assert status in (0, 1)
        harmless(said)
        if kind == "junit":
            ElementTree.fromstring(said)
        if kind in ("json", "gitlab", "sarif"):
            json.loads(said)
    if status != 0:
        return False
    for words in (
        ["summary"],
        ["render"],
        *(["graph", "--format", kind] for kind in ("text", "mermaid", "dot", "svg")),
    ):
        assert main([words[0], str(path), *words[1:]]) == 0
        said = capsys.readouterr().out
        harmless(said)
        if "svg" in words:
            ElementTree.fromstring(said)
    out = folder / "out" / "runs"
    assert main(["train", str(path), "--quiet", "--threads", "1", "--out", str(out), "--max-steps", "2"]) == 0
    (run,) = out.iterdir()
    assert [child.name for child in (folder / "out").iterdir()] == ["runs"]
    for words in (
        ["train", "--resume", str(run), "--quiet", "--threads", "1"],
        ["eval", str(run), "--threads", "1"],
        ["verify", str(run), "--threads", "1"],
        ["runs", "list", str(out)],
        ["export", str(run), "--format", "csv", "-o", "-"],
        ["export", str(run), "--format", "numpy", "-o", str(folder / "made.py"), "--threads", "1"],
    ):
        status = main(words)
        said, error = capsys.readouterr()
        assert status == 0, (words, error)
        harmless(said + error)
    compile((folder / "made.py").read_text(), "made.py", "exec")
    with np.load(run / "last.npz") as arrays:
        assert not any(set(member) & set('\\<>:"|?*') or ".." in member for member in arrays.files)
    return True


@pytest.mark.parametrize("number", sampled(range(len(NAMES)), 3))
def test_a_name_is_refused_where_it_is_written_or_good_everywhere(
    number: int, tmp_path: Path, capsys: Captured
) -> None:
    check(PARTS[number % len(PARTS)], f'"{NAMES[number]}"', tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_names_that_are_put_together(seed: int, tmp_path: Path, capsys: Captured) -> None:
    chances, good = random.Random(seed), 0
    for number in range(110):
        folder = tmp_path / str(number)
        folder.mkdir()
        good += check(chances.choice(PARTS), quoted(generated(chances)), folder, capsys)
    assert 5 < good < 105


def labelled(names: tuple[str, str], folder: Path) -> Path:
    """A spec of pictures whose classes are called so, by a table that says it."""
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "label"))
        for number in range(20):
            Image.fromarray(np.full((8, 8), 12 * number, np.uint8)).save(folder / f"{number}.png")
            table.writerow((f"{number}.png", names[number % 2]))
    path = folder / "net.yaml"
    data = "data: {source: {type: image_folder, train: list.csv}, root: .}\ntrain: {epochs: 1, batch_size: 8}\n"
    path.write_text(f"cnnspec: 1\ninput: [1, 8, 8]\nlayers: [flatten, {{type: dense, units: 2}}]\n{data}")
    return path


def check_classes(names: tuple[str, str], folder: Path, capsys: Captured) -> bool:
    """Whether classes may be called so, in which case the names are text in every output."""
    path, run = labelled(names, folder), str(folder / "net")
    status = main(["train", str(path), "--threads", "1", "--out", str(folder)])
    harmless("".join(capsys.readouterr()))
    assert status in (0, 1, 4)
    if status:
        return False
    pictures = [str(folder / f"{number}.png") for number in (0, 1)]
    classes = {name.strip() for name in names}  # spaces around a cell are none of it
    for words in (
        ["eval", run, "--confusion"],
        ["eval", run, "--json"],
        ["predict", run, *pictures],
        ["predict", run, *pictures, "--format", "csv"],
        ["predict", run, *pictures, "--json"],
        ["report", run],
    ):
        status = main([*words, "--threads", "1"])
        said, error = capsys.readouterr()
        assert status == 0, (words, error)
        harmless(error)
        if "csv" in words:
            rows = list(csv.DictReader(io.StringIO(said, newline="")))
            assert {row["class"] for row in rows} <= classes, said
        elif "--json" in words:
            found = [json.loads(line) for line in said.splitlines()]
            assert words[0] == "predict" or set(found[0]["classes"]) == classes
        else:
            harmless(said)
    tags = Tags()
    tags.feed((folder / "net" / "report.html").read_text(encoding="utf-8"))
    assert "zz" not in tags.found
    return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_classes_of_any_name(seed: int, tmp_path: Path, capsys: Captured) -> None:
    chances, good = random.Random(seed), 0
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        good += check_classes((generated(chances), generated(chances)), folder, capsys)
    assert good > 5


def test_a_class_whose_name_is_a_command_of_a_host(tmp_path: Path, capsys: Captured) -> None:
    assert check_classes(("CON", "::error::forged " * 9), tmp_path, capsys)


def test_classes_whose_names_are_markup(tmp_path: Path, capsys: Captured) -> None:
    assert check_classes(("<zz>&amp;\u202e", "a\nb\x1b[31m[/red]"), tmp_path, capsys)


@pytest.mark.parametrize("name", ["lenet (1)", "\N{SNOWMAN}", "a\nb", "\x1b[31m", "[red]", "-", "..", "x" * 200])
def test_a_spec_without_a_name_is_called_after_its_file(name: str, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}")
    assert main(["train", str(path), "--quiet", "--threads", "1", "--out", str(tmp_path / "runs")]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert main(["eval", str(run)]) == 0
    assert main(["validate", str(path), "--format", "sarif"]) == 0
    path.write_text("cnnspec: 1\n")
    for kind in FORMATS:
        assert main(["validate", str(path), "--format", kind]) == 1
        assert not CONTROL.search(capsys.readouterr().out)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names of files")
def test_folders_of_runs_of_any_name(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no text, mathematics of matplotlib, a leading underscore, controls of a terminal."""
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}")
    assert main(["train", "net.yaml", "--quiet", "--no-curves", "--threads", "1", "--out", "runs"]) == 0
    names = [os.fsdecode(b"\xff::error::forged"), "_$\\frac$", "\x1b[31m<zz>\u202e"]
    for name in names:
        shutil.copytree("runs/net", f"runs/{name}")
    runs = [f"runs/{name}" for name in names]
    capsys.readouterr()
    for words in (
        ["runs", "compare", *runs, "-o", "curves.png"],
        ["report", *runs, "-o", "page.html"],
        ["report", runs[0], "--threads", "1"],
        ["train", "--resume", runs[2], "--threads", "1"],
    ):
        assert main(words) == 0, capsys.readouterr().err
        harmless("".join(capsys.readouterr()))
    tags = Tags()
    tags.feed(Path("page.html").read_text(encoding="utf-8"))
    assert "zz" not in tags.found


def test_runs_of_one_name_in_two_folders_are_two_lines_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("cnnspec.cli.runs.draw_comparison", lambda runs, path: drawn.extend(runs))
    (tmp_path / "net.yaml").write_text(f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}")
    words = ["train", str(tmp_path / "net.yaml"), "--quiet", "--no-curves", "--threads", "1", "--out"]
    runs = [str(tmp_path / folder / "net") for folder in ("a", "b")]
    for run in runs:
        assert main([*words, str(Path(run).parent)]) == 0
    assert main(["runs", "compare", *runs, "-o", str(tmp_path / "curves.png")]) == 0
    assert drawn == runs
