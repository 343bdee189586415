"""The norms that a run keeps: those of its weights, the same after a break, and none that was made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import main
from cnnspec.train.norms import as_text, read_norms

NET = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3}
  - relu
  - flatten
  - {type: dense, units: 10, id: "out"}
data: {source: digits}
train: {epochs: 3, accumulate: 2, optimizer: {type: sgd, learning_rate: 0.05}}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("norms")
    (folder / "net.yaml").write_text(NET)
    assert main(["train", str(folder / "net.yaml"), "--quiet", "--no-curves", "--out", str(folder)]) == 0
    return folder / "net"


def test_a_row_for_each_epoch_tells_the_norms(whole: Path) -> None:
    rows = read_norms(whole / "norms.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert list(rows[0]) == ["epoch", "conv2d_1.weights", "conv2d_1.gradient", "out.weights", "out.gradient"]
    model = cnnspec.load(whole)
    for layer in ("conv2d_1", "out"):
        parts = [model.params[f"{layer}.{name}"].ravel() for name in ("weight", "bias")]
        expected = np.linalg.norm(np.concatenate(parts).astype(np.float64))
        assert rows[-1][f"{layer}.weights"] == pytest.approx(expected, rel=1e-5)
        gradient = rows[-1][f"{layer}.gradient"]
        assert gradient is not None
        assert 0 < gradient < 10


def test_a_broken_training_keeps_the_same_rows(whole: Path, tmp_path: Path) -> None:
    words = ["train", str(whole.parent / "net.yaml"), "--quiet", "--no-curves", "--out", str(tmp_path)]
    assert main([*words, "--max-steps", "60"]) == 0
    run = tmp_path / "net"
    with (run / "norms.csv").open("a") as file:
        file.write("4,1.25")  # a line that was cut off
    assert main(["train", "--resume", str(run), "--quiet", "--no-curves"]) == 0
    assert (run / "norms.csv").read_text() == (whole / "norms.csv").read_text()


@pytest.mark.parametrize(
    "content", ["", "no table", "epoch,a.weights\n1,many\n", "epoch\n7\n", "epoch,a\n1,2,3\n", "\0"]
)
def test_what_cannot_be_read_is_left_out(content: str, tmp_path: Path) -> None:
    (tmp_path / "norms.csv").write_text(content)
    assert read_norms(tmp_path / "norms.csv") == []
    assert read_norms(tmp_path / "nowhere.csv") == []


def test_names_with_commas_and_quotes_are_kept(tmp_path: Path) -> None:
    row = {"epoch": 1.0, 'a,"b".weights': 2.5, "c.gradient": None}
    (tmp_path / "norms.csv").write_text(as_text([row]))
    assert read_norms(tmp_path / "norms.csv") == [row]
