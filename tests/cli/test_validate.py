"""`validate`, `explain`, `init`, `render`, `schema` as a person runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cnnspec
from cnnspec import registry
from cnnspec.cli import main
from cnnspec.cli.init import TEMPLATES
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.formats import FORMATS
from cnnspec.pages import NESTED, SECTIONS

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "good.yaml").write_text(CATALOGUE["unknown-key"].good)
    (tmp_path / "warns.yml").write_text(CATALOGUE["unused-var"].bad)
    (tmp_path / "sub" / "bad.yaml").write_text(CATALOGUE["unknown-key"].bad)
    return tmp_path


def test_a_folder_is_searched(folder: Path, capsys: Captured) -> None:
    assert main(["validate", str(folder), "--format", "concise"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert f"{folder}/sub/bad.yaml:4:48: error[unknown-key]: unknown key of conv2d 'pading'" in lines
    assert lines[-1] == "1 error, 1 warning in 3 files"


@pytest.mark.parametrize(
    ("words", "code", "summary"),
    [
        (["good.yaml"], 0, "no problems in 1 file"),
        (["*.y*ml"], 0, "1 warning in 2 files"),
        (["*.y*ml", "--strict"], 1, "1 warning in 2 files"),
        (["."], 1, "1 error, 1 warning in 3 files"),
        ([".", "--ignore", "unused-var"], 1, "1 error in 3 files"),
        ([".", "--select", "unused-var,shape-mismatch"], 1, "1 error, 1 warning in 3 files"),
        ([".", "--select", "unused-id"], 1, "1 error in 3 files"),
        (["good.yaml", "good.yaml"], 0, "no problems in 1 file"),
    ],
)
def test_paths_and_choices(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, summary: str
) -> None:
    monkeypatch.chdir(folder)
    assert main(["validate", *words]) == code
    assert capsys.readouterr().out.splitlines()[-1] == summary


def test_a_comment_silences_its_line(folder: Path, capsys: Captured) -> None:
    path = folder / "warns.yml"
    path.write_text(path.read_text().replace("vars: {width: 4}", "vars: {width: 4}  # cnnspec: ignore[unused-var]"))
    assert main(["validate", str(path), "--strict"]) == 0
    path.write_text(path.read_text().replace("ignore[unused-var]", "ignore[unused-id]"))
    assert main(["validate", str(path), "--strict"]) == 1


def test_reports_go_to_files(folder: Path, capsys: Captured) -> None:
    report = folder / "report.json"
    assert main(["validate", str(folder), "--format", "gitlab", "--output-file", str(report)]) == 1
    assert capsys.readouterr().out == "1 error, 1 warning in 3 files\n"
    assert len(json.loads(report.read_text())) == 2
    assert main(["validate", str(folder), "--format", "gitlab", "--output-file", str(folder / "no" / "r")]) == 4


def test_what_is_not_there(folder: Path, capsys: Captured) -> None:
    assert main(["validate", str(folder / "none.yaml")]) == 2
    assert "no spec at" in capsys.readouterr().err
    assert main(["validate", str(folder), "--ignore", "unknwon-key"]) == 2
    assert "help: did you mean unknown-key?" in capsys.readouterr().err


def test_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cnnspec", "validate", "-", "--format", "concise"],
        input=CATALOGUE["unknown-key"].bad,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("<stdin>:4:48: error[unknown-key]")
    assert done.stderr == ""


def test_validation_does_not_wait_for_the_trainer() -> None:
    code = "import sys; from cnnspec.cli import main; main(['validate', 'specs']); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_validate(name: str, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["init", name, "-o", str(path)]) == 0
    assert main(["validate", "--strict", str(path)]) == 0, capsys.readouterr().out
    assert "#" in path.read_text()
    before = path.read_text()
    path.write_text(before + "# mine\n")
    assert main(["init", name, "-o", str(path)]) == 4
    assert path.read_text() == before + "# mine\n"


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("shape-mismatch", "A layer does not fit what it reads."),
        ("conv2d", "filters: an integer at least 1 (required)"),
        ("sgd", "momentum: a number at least 0 and below 1 (default 0.0)"),
        ("normal", "std: a number at least 0 (default 0.01)"),
        ("conv2d", "stride: an integer at least 1 or a list of 2 values, each an integer at least 1 (default [1, 1])"),
        ("cosine", "Example: train: {epochs: 5, schedule: cosine}"),
        ("residual", "shortcut: one of auto, identity, projection, if_same, none (default auto)"),
        ("parallel", "merge: one of concat, add, multiply, subtract, maximum, minimum (default concat)"),
        ("train", "epochs: a number above 0 (required)"),
        ("early_stopping", "patience: an integer at least 1 (default 5)"),
    ],
)
def test_explain(topic: str, text: str, capsys: Captured) -> None:
    assert main(["explain", topic]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("topic", ["architecture", "guide/architecture", "guide/data"])
def test_explain_prints_the_guide(topic: str, capsys: Captured) -> None:
    page = Path(cnnspec.__file__).parent / "guide" / f"{topic.removeprefix('guide/')}.md"
    assert main(["explain", topic]) == 0
    assert capsys.readouterr().out.strip() == page.read_text(encoding="utf-8").strip()


def test_explain_lists_everything_and_suggests(capsys: Captured) -> None:
    assert main(["explain"]) == 0
    assert "\nLayers, a line each: layer\n" in capsys.readouterr().out
    assert main(["explain", "conv2"]) == 2
    assert "did you mean conv2d" in capsys.readouterr().err


def test_every_page_can_be_printed(capsys: Captured) -> None:
    types = [name for kind in registry.PACKAGES for name in registry.table(kind)]
    for topic in [*CATALOGUE, *types, *SECTIONS, *NESTED]:
        assert main(["explain", topic]) == 0
        page = capsys.readouterr().out
        assert "None" not in page
        assert "Wrong:" in page or "Example: " in page or topic in ("unknown-path", "unreadable-file")
    assert "Traceback" not in capsys.readouterr().err


def test_render_and_schema(tmp_path: Path, capsys: Captured) -> None:
    shutil.copy(ROOT / "specs" / "lenet.yaml", tmp_path / "a.yaml")
    assert main(["render", str(tmp_path / "a.yaml"), "--set", "train.epochs=7"]) == 0
    rendered = capsys.readouterr().out
    assert "epochs: 7" in rendered
    (tmp_path / "b.yaml").write_text(rendered)
    assert main(["validate", str(tmp_path / "b.yaml"), "--ignore", "unused-id"]) == 0
    capsys.readouterr()
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "cnnspec"


FIXABLE = """\
cnnspec: 1   # the version
input: [1, 8, 8]
layers:
  - {type: conv2d, filtres: "4", kernel_size: 3}   # a comment
  -   rellu
train: {epochs: 1, optimizer: {type: sgd, learning_rate: "1e-2"}}
"""


def test_fix_changes_what_is_wrong_and_nothing_else(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(FIXABLE)
    assert main(["validate", str(path), "--diff"]) == 1
    shown = capsys.readouterr().out
    assert "+  -   relu\n" in shown
    assert path.read_text() == FIXABLE
    assert main(["validate", str(path), "--fix"]) == 1
    # The quotes around the 4 come to light when the key is right.
    assert capsys.readouterr().err == "fixed 4 in 1 file\n"
    expected = FIXABLE.replace("filtres", "filters").replace('"4"', "4").replace("rellu", "relu")
    assert path.read_text() == expected.replace('"1e-2"', "1e-2")
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.yaml"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_fix_keeps_line_ends_and_the_byte_order_mark(end: str, mark: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    text = 'cnnspec: 1\ninptu: [1, 8, 8]\nlayers: [{typ: "relu"}, {type: Dropout, rte: "0.5"}, flatten]\n'
    path.write_bytes(mark + text.replace("\n", end).encode())
    assert main(["validate", str(path), "--fix"]) == 0
    mended = 'cnnspec: 1\ninput: [1, 8, 8]\nlayers: [{type: "relu"}, {type: dropout, rate: 0.5}, flatten]\n'
    assert path.read_bytes() == mark + mended.replace("\n", end).encode()


@pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
def test_diff_is_a_patch(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("f.yaml")
    path.write_text(FIXABLE.rstrip("\n"))
    assert main(["validate", "f.yaml", "--diff"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "would fix 4 in 1 file\n"
    subprocess.run(["patch", "-s", "f.yaml"], input=shown.out, text=True, check=True)
    patched = path.read_text()
    path.write_text(FIXABLE.rstrip("\n"))
    main(["validate", "f.yaml", "--fix"])
    assert path.read_text() == patched


def test_standard_input_cannot_be_fixed(capsys: Captured) -> None:
    assert main(["validate", "-", "--fix"]) == 2
    assert "--fix cannot change standard input" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_does_not_hide_the_others(folder: Path, capsys: Captured) -> None:
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    (folder / "folder.yaml").mkdir()
    assert main(["validate", str(folder), "--format", "concise"]) == 1
    shown = capsys.readouterr().out
    assert f"{folder}/gone.yaml:1:1: error[unreadable-file]: cannot be read: No such file or directory" in shown
    assert "2 errors, 1 warning in 4 files" in shown


def test_hidden_folders_are_left_out(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    for hidden in (".git", "sub/.venv"):
        (folder / hidden).mkdir()
        (folder / hidden / "bad.yaml").write_text(CATALOGUE["unknown-key"].bad)
    monkeypatch.chdir(folder)
    for path in (".", str(folder), "*"):
        main(["validate", path])
        assert capsys.readouterr().out.endswith("1 error, 1 warning in 3 files\n")
    assert main(["validate", ".git/bad.yaml"]) == 1


def test_what_a_file_says_cannot_steer_a_terminal_or_a_log(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "f.yaml"
    layers = 'layers:\n  - {type: relu, "a\\n::error::b": 1}\n  - {type: "\\e[31mred"}\n'
    path.write_text(f'cnnspec: 1\ninput: [4]\n{layers}name: "\\0"\n')
    for format in FORMATS:
        assert main(["validate", str(path), "--format", format]) == 1
        shown = capsys.readouterr().out
        assert "\n::error::b" not in shown
        assert "\x1b" not in shown
        assert "\0" not in shown


def test_a_finding_at_every_place_of_a_line_of_wide_characters(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("cnnspec: 1\ninput: [4]\nlayers: [{x-a: 日本語 e\u0301 😀, type: rellu}]\n")
    main(["validate", str(path)])
    _, _, line, carets, *_ = capsys.readouterr().out.splitlines()
    assert line.index("rellu") - 1 + 3 + 1 == carets.index("^")  # an accent takes no column, four characters take two
    assert carets.count("^") == 5


def test_a_long_line_is_cut_around_the_place(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"cnnspec: 1\ninput: [4]\nlayers: [{'relu, ' * 300}rellu{', relu' * 300}]\n")
    main(["validate", str(path)])
    _, _, line, carets, *_ = capsys.readouterr().out.splitlines()
    assert len(line) < 180
    assert line[carets.index("^") :].startswith("rellu")
    assert len(carets.strip("| ")) == 5


def test_render_says_where_every_value_came_from(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(
        "cnnspec: 1\n"
        "input: [1, 8, 8]\n"
        "blocks: {unit: {params: {filters: 4}, layers: [{type: conv2d, filters: $filters, kernel_size: 3}]}}\n"
        "layers:\n"
        "  - {use: unit}\n"
        "  - flatten\n"
        "  - {type: dense, units: 3}\n"
        "train:\n"
        "  epochs: 3\n"
        "  optimizer: {type: sgd, momentum: 0.9}\n"
    )
    assert main(["render", str(path), "--origins", "--set", "train.epochs=5"]) == 0
    text = capsys.readouterr().out
    origins = {
        line.partition("# ")[0].strip().removeprefix("- "): line.partition("# ")[2] for line in text.splitlines()
    }
    assert origins["input: [1, 8, 8]"] == f"{path}:2:8"
    assert origins["filters: 4"].startswith(f"{path}:3:")
    assert f"at {path}:5:11" in origins["filters: 4"]
    assert origins["padding: valid"] == "default"
    assert origins["epochs: 5"] == "--set"
    assert origins["momentum: 0.9"] == f"{path}:10:36"
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert main(["validate", str(again)]) == 0


def test_a_base_outside_of_the_folder_needs_leave(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "base.yaml").write_text("cnnspec: 1\ninput: [4]\nlayers: [relu]\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "net.yaml"
    path.write_text("extends: ../base.yaml\nname: own\n")
    assert main(["validate", str(path)]) == 1
    assert "or give --allow-outside" in capsys.readouterr().out
    assert main(["validate", str(path), "--allow-outside"]) == 0
    assert main(["summary", str(path), "--allow-outside"]) == 0


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{type: conv2d, out_channels: 4, kernel_size: 3}", "filters"),
        ("{type: conv2d, filters: 4, kernel_size: 3, strides: 2}", "stride"),
        ("{type: max_pool2d, pool_size: 2}", "kernel_size"),
        ("{type: Linear, units: 3}", "dense"),
        ("BatchNormalization", "batch_norm"),
    ],
)
def test_words_of_other_systems_are_understood_and_fixed(
    written: str, meant: str, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(f"cnnspec: 1\ninput: [1, 8, 8]\nlayers:\n  - {written}  # as I know it\n")
    assert main(["validate", str(path)]) == 1
    assert f"did you mean {meant}?" in capsys.readouterr().out
    main(["validate", str(path), "--fix"])
    assert meant in path.read_text()
    assert "  # as I know it" in path.read_text()


def test_a_bug_is_confessed_in_two_lines(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("cnnspec.cli.validate.load", broken)
    assert main(["validate", "specs/lenet.yaml"]) == 3
    first, second = capsys.readouterr().err.splitlines()
    assert "internal error (ZeroDivisionError: by nothing, at test_validate.py:" in first
    log = Path(second.rpartition(" ")[2])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_validation_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("cnnspec: 1\ninput: [4]\nlayers: [relu, {type: dense, unitz: 3}]\n")
    before = sorted(tmp_path.rglob("*")), path.read_bytes(), path.stat().st_mtime_ns
    for words in ([], ["--strict"], ["--diff"], ["--format", "sarif"]):
        main(["validate", str(tmp_path), *words])
    assert (sorted(tmp_path.rglob("*")), path.read_bytes(), path.stat().st_mtime_ns) == before
