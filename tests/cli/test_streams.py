"""Output where nobody reads it, in few letters, under names that try to steer it: clear lines and the right status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.spec import load
from cnnspec.train.run import Run
from tests.samples import sampled

ROOT = Path(__file__).parent.parent.parent
LAYERS = "layers: [flatten, {type: dense, units: 10}]\n"
DATA = "data: {source: {type: synthetic, shape: [1, 8, 8], train: 40, test: 10}}\ntrain: {epochs: 3, batch_size: 20}\n"
Captured = pytest.CaptureFixture[str]


def program(words: list[str], shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a shell, with what follows it there; its own status is that of the whole."""
    line = " ".join(f"'{word}'" for word in [sys.executable, "-m", "cnnspec", *words])
    command = ["bash", "-c", f"{line} {shell}; exit ${{PIPESTATUS[0]}}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def unread(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the program with an output that nobody reads, from the first letter on."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cnnspec", *words]
    try:
        return subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)


needs_bash = pytest.mark.skipif(sys.platform == "win32", reason="the shell is another one")


@needs_bash
@pytest.mark.parametrize(("bound", "status"), [("<= 0.0", 4), (">= 0.0", 141)])
def test_a_pipe_that_is_closed_ends_no_training(bound: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}require: {{train.loss: '{bound}'}}\n"
    )
    words = ["train", str(tmp_path / "net.yaml"), "--json", "--threads", "1", "--out", str(tmp_path)]
    done = unread(words)
    assert done.returncode == status, done.stderr
    assert len(Run.existing(tmp_path / "net").history()) == 3
    assert "results" in Run.existing(tmp_path / "net").about()


@needs_bash
def test_a_pipe_that_is_closed_changes_no_verdict(tmp_path: Path) -> None:
    assert unread(["summary", "specs/resnet50.yaml"]).returncode == 141
    (tmp_path / "wrong.yaml").write_text("cnnspec: 1\ninput: [1, 8, 8]\nlayers: [" + "rellu, " * 900 + "rellu]\n")
    done = unread(["validate", str(tmp_path / "wrong.yaml")])
    assert done.returncode == 1
    assert not done.stderr


@needs_bash
def test_streams_that_are_closed_or_full() -> None:
    assert program(["validate", "specs/lenet.yaml"], ">&-").returncode == 0
    assert program(["validate", "-"], "<&-").returncode == 1
    assert program(["validate", "nowhere.yaml"], "2>&-").returncode == 2
    if Path("/dev/full").exists():
        done = program(["validate", "specs/lenet.yaml"], "> /dev/full")
        assert done.returncode == 4
        assert done.stderr.startswith("cnnspec: error: cannot write the output: ")


@needs_bash
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("verb", sampled(["summary", "graph", "render", "explain"], 4))
def test_a_terminal_of_few_letters(verb: str, encoding: str, tmp_path: Path) -> None:
    words = [verb, "conv2d" if verb == "explain" else "specs/lenet.yaml"]
    done = program(words, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    done = program(["validate", str(tmp_path / "\N{SNOWMAN}\x1b[31m.yaml")], PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert done.stderr.startswith("cnnspec: error: ")
    assert "\x1b" not in done.stderr


@needs_bash
def test_a_drawing_backend_that_does_not_exist(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "net.yaml").write_text(f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}")
    words = ["train", str(tmp_path / "net.yaml"), "--threads", "1", "--out", str(tmp_path)]
    done = program(words, MPLBACKEND="nonsense")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "net" / "loss.png").is_file()


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "net.yaml").write_text(f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}")
    assert main(["train", str(tmp_path / "net.yaml"), "--quiet", "--threads", "1", "--out", str(tmp_path)]) == 0
    run = str(tmp_path / "net")
    capsys.readouterr()
    for words, status, message in (
        (["runs", "compare", run, "-o", str(tmp_path / "x.zzz")], 4, "x.zzz: Format 'zzz' is not supported"),
        (["data", "fetch", "mnist", "--mirror", "x"], 2, "expected an address such as"),
        (["data", "fetch", "mnist", "--mirror", "http://["], 2, "expected an address such as"),
        (["train", "--resume", run, "--out", run], 2, "--resume goes on in the run's own directory"),
        (["diff", "--git", "--", f"--output={tmp_path}/written", "specs/lenet.yaml"], 4, "it begins with a dash"),
    ):
        assert main(words) == status
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) <= 2
    assert not (tmp_path / "written").exists()


def test_gates_are_printed_as_written(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "net.yaml").write_text(
        f"cnnspec: 1\ninput: [1, 8, 8]\n{LAYERS}{DATA}require: {{train.loss: '< 0.012345678901'}}"
    )
    words = ["train", str(tmp_path / "net.yaml"), "--quiet", "--threads", "1", "--out", str(tmp_path)]
    assert main(words) == 4
    found = re.search(r"required train.loss < 0.012345678901, got (\S+)", capsys.readouterr().err)
    assert found is not None
    assert float(found[1]) == Run.existing(tmp_path / "net").history()[-1]["train.loss"]
    assert load(tmp_path / "net" / "spec.yaml").require[0].bound == 0.012345678901
