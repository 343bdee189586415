"""Files that verbs write: where the system takes only a part of one, what was there stays, and nothing else is left."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sizes of files are limited as Linux does it")
SPEC = """cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: {type: synthetic, shape: [1, 8, 8], train: 40, test: 10}}
train: {epochs: 1, batch_size: 20}
"""
VERBS = (
    ["graph", "net.yaml", "-o", "out/made.svg"],
    ["validate", "net.yaml", "--format", "sarif", "--output-file", "out/made.sarif"],
    ["init", "lenet", "-o", "out/made.yaml"],
    ["report", "runs/net", "-o", "out/made.html", "--threads", "1"],
    ["predict", "runs/net", "in.npy", "-o", "out/made.csv", "--threads", "1"],
    ["predict", "runs/net", "in.npy", "-o", "out/made.npy", "--threads", "1"],
    ["export", "runs/net", "--format", "csv", "-o", "out/made.csv"],
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.yaml").write_text(SPEC)
    np.save(folder / "in.npy", np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8))
    words = ["train", str(folder / "net.yaml"), "--quiet", "--threads", "1", "--no-curves", "--out"]
    assert main([*words, str(folder / "runs")]) == 0
    (folder / "out").mkdir()
    return folder


@pytest.mark.parametrize("words", VERBS, ids=lambda words: f"{words[0]}-{Path(words[-1]).suffix or words[0]}")
def test_a_file_is_written_whole_or_not_at_all(
    words: list[str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    made = Path(next(word for word in words if word.startswith("out/")))
    anew = words[0] in ("init", "export")  # they write over no file
    if not anew:
        made.write_text("kept")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
    try:
        status = main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert status == 4
    assert f"cannot write {made}: File too large" in capsys.readouterr().err
    assert [path.name for path in made.parent.iterdir()] == ([] if anew else [made.name])
    if not anew:
        assert made.read_text() == "kept"
        made.unlink()
    assert main(words) == 0
    assert made.stat().st_size > 100
    made.unlink()


def test_an_output_may_be_a_device_and_a_link(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert main(["graph", "net.yaml", "-o", "/dev/null", "--format", "svg"]) == 0
    assert main(["predict", "runs/net", "in.npy", "-o", "/dev/null", "--format", "csv", "--threads", "1"]) == 0
    Path("real.svg").write_text("before")
    Path("out/link.svg").symlink_to("../real.svg")
    assert main(["graph", "net.yaml", "-o", "out/link.svg"]) == 0
    assert Path("out/link.svg").is_symlink()
    assert "<svg" in Path("real.svg").read_text()
    Path("out/link.svg").unlink()
