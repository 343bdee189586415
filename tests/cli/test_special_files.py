"""Files that are none, links in a circle, and outputs that are what is read: each told before anything is written."""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.cli import main
from cnnspec.diagnostics import RunError

TEXT = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: {type: synthetic, shape: [1, 8, 8], train: 40, test: 10}}
train: {epochs: 1, batch_size: 20}
"""
Captured = pytest.CaptureFixture[str]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("special")
    (folder / "net.yaml").write_text(TEXT)
    words = ["train", str(folder / "net.yaml"), "--quiet", "--no-curves", "--threads", "1", "--out", str(folder)]
    assert main(words) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a spec and its run `net`."""
    place = Path(shutil.copytree(trained, tmp_path / "work"))
    monkeypatch.chdir(place)
    return place


def test_links_in_a_circle_are_findings(folder: Path, capsys: Captured) -> None:
    (folder / "circle.yaml").symlink_to("circle.yaml")
    (folder / "heir.yaml").write_text("extends: circle.yaml\n")
    (folder / "plugged.yaml").write_text(f"{TEXT}plugins: [circle.yaml]\n")
    assert main(["validate", ".", "--format", "concise"]) == 1
    said = capsys.readouterr().out
    assert {line.split(":")[0] for line in said.splitlines()} >= {"circle.yaml", "heir.yaml", "plugged.yaml"}


@pytest.mark.parametrize("words", [["--plugin", "plugin.py"], ["--allow-plugins"]])
def test_a_plugin_that_is_no_file_is_refused_unread(words: list[str], folder: Path, capsys: Captured) -> None:
    os.mkfifo("plugin.py")
    (folder / "net.yaml").write_text(f"{TEXT}plugins: [plugin.py]\n" if len(words) == 1 else TEXT)
    assert main(["validate", "net.yaml", *words]) in (1, 2)
    assert "it is a pipe or a device" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ("net.yaml", ["validate", "net.yaml", "--output-file", "net.yaml"]),
        ("net.yaml", ["validate", "net.yaml", "--output-file", "link.yaml"]),
        ("net.yaml", ["validate", ".", "--baseline", "hard.yaml", "--update-baseline"]),
        ("net.yaml", ["test", "net.yaml", "--junit", "net.yaml"]),
        ("net.yaml", ["test", "net.yaml", "--markdown", "net.yaml"]),
        ("x.npy", ["predict", "net", "x.npy", "-o", "x.npy"]),
        ("x.csv", ["predict", "net", "x.csv", "-o", "../work/x.csv"]),
        ("x.png", ["predict", "net", ".", "--show", "x.png"]),
        ("net/last.npz", ["predict", "net", "x.npy", "-o", "net/last.npz"]),
        ("net/spec.yaml", ["report", "net", "-o", "net/spec.yaml"]),
        ("net/last.npz", ["export", "net", "--format", "numpy", "-o", "net/last.py", "--overwrite"]),
    ],
)
def test_what_is_read_is_not_written_over(read: str, words: list[str], folder: Path, capsys: Captured) -> None:
    np.save("x.npy", np.zeros((2, 1, 8, 8), np.uint8))
    (folder / "x.csv").write_text(("0," * 63 + "0\n") * 2)
    if read == "x.png":
        pytest.importorskip("PIL.Image").new("L", (8, 8)).save(read)
    (folder / "link.yaml").symlink_to("net.yaml")
    os.link("net.yaml", "hard.yaml")
    content = (folder / read).read_bytes()
    assert main(words) == 4
    assert "is read here, and would be written over" in capsys.readouterr().err
    assert (folder / read).read_bytes() == content


def test_what_is_no_file_is_not_replaced(folder: Path, capsys: Captured) -> None:
    os.mkfifo("pipe.json")
    os.mkfifo("pipe.csv")
    os.mkfifo("pipe.yaml")
    (folder / "net.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=1\n[connected]\noutput=10\nactivation=linear\n")
    assert main(["convert", "net.cfg", "-o", "pipe.yaml", "--overwrite"]) == 4
    assert main(["validate", "net.yaml", "--baseline", "pipe.json", "--update-baseline"]) == 4
    assert main(["export", "net", "--format", "csv", "-o", "pipe.csv", "--overwrite"]) == 4
    with pytest.raises(RunError, match="it is a pipe or a device"):
        compile(TEXT).save("pipe.json")
    assert (folder / "pipe.json").is_fifo()
    assert (folder / "pipe.csv").is_fifo()
    assert (folder / "pipe.yaml").is_fifo()


@pytest.mark.parametrize(
    ("pipe", "words"),
    [
        ("pipe.csv", ["predict", "net", "x.npy", "-o", "pipe.csv"]),
        ("pipe.npy", ["predict", "net", "x.npy", "-o", "pipe.npy"]),
        ("pipe.html", ["report", "net", "-o", "pipe.html"]),
        ("pipe.svg", ["graph", "net.yaml", "-o", "pipe.svg"]),
        ("pipe.json", ["validate", "net.yaml", "--output-file", "pipe.json"]),
        ("net/loss.png", ["train", "--resume", "net", "--set", "train.epochs=2"]),
    ],
)
def test_a_pipe_that_nobody_reads_is_told_and_not_waited_for(
    pipe: str, words: list[str], folder: Path, capsys: Captured
) -> None:
    pytest.importorskip("matplotlib")
    np.save("x.npy", np.zeros((2, 1, 8, 8), np.uint8))
    os.mkfifo(pipe)
    assert main(words) == 4
    assert "it is a pipe that nobody reads" in capsys.readouterr().err
    assert (folder / pipe).is_fifo()


def test_a_pipe_that_is_read_gets_all_of_it(folder: Path) -> None:
    np.save("x.npy", np.zeros((3000, 1, 8, 8), np.uint8))  # more lines than a pipe holds
    os.mkfifo("pipe.csv")
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit((folder / "pipe.csv").read_bytes)
        words = ["predict", "net", "x.npy", "-o", "pipe.csv"]
        assert any(main(words) == 0 for _ in range(1000))  # it is refused until the thread has opened the pipe
        through_pipe = read.result()
    assert main(["predict", "net", "x.npy", "-o", "file.csv"]) == 0
    assert through_pipe == (folder / "file.csv").read_bytes()
