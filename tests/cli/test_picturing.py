"""Pictures for people: `predict --explain` and `--show`, and `data show`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

NET = """\
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - flatten
  - {type: dense, units: 10}
data: {source: digits, validation: {fraction: 0.1}}
train: {epochs: 1, optimizer: {type: adam, learning_rate: 0.003}}
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picturing")
    (folder / "net.yaml").write_text(NET)
    assert main(["train", str(folder / "net.yaml"), "--quiet", "--out", str(folder)]) == 0
    return folder / "net"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pics"
    folder.mkdir()
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
    np.save(folder / "more.npy", np.zeros((2, 8, 8), np.uint8))
    return folder


def test_explanations_lie_beside_their_images(run: Path, pictures: Path, capsys: Captured) -> None:
    assert main(["predict", str(run), str(pictures), "--explain"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    made = sorted(path.name for path in pictures.glob("*.explained.png"))
    assert made == [f"{name}.explained.png" for name in ("0", "1", "2", "more-0", "more-1")]
    assert f"explained in 5 pictures such as {pictures / '0.explained.png'}" in err
    with Image.open(pictures / made[0]) as drawn:
        width, height = drawn.size
        assert width > 3 * height
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 100


def test_or_in_a_folder_and_no_two_in_one_file(run: Path, pictures: Path, tmp_path: Path, capsys: Captured) -> None:
    (pictures / "deep").mkdir()
    (pictures / "0.png").rename(pictures / "deep" / "1.png")
    folder = tmp_path / "maps"
    paths = [str(pictures / "1.png"), str(pictures / "deep" / "1.png")]
    words = ["--explain", "--layer", "conv2d_1", "--class", "7", "-o", f"{folder}/", "--json"]
    assert main(["predict", str(run), *paths, *words]) == 0
    assert [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()] == paths
    assert sorted(path.name for path in folder.iterdir()) == ["1-2.explained.png", "1.explained.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--explain", "-o", "found.csv"], "found.csv is no folder"),
        (["--explain", "--layer", "conv2d_2"], "layer 'conv2d_2' has no map"),
        (["--explain", "--class", "ten"], "no class 'ten'"),
        (["--layer", "conv2d_1"], "add --explain"),
        (["--show", "sheet.doc"], "name a file that ends with .png"),
        (["--show", "nowhere/sheet.png"], "cannot write nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    words: list[str], message: str, run: Path, pictures: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    assert main(["predict", str(run), "1.png", *words]) == 4
    assert message in capsys.readouterr().err


def test_a_contact_sheet_has_every_image(run: Path, pictures: Path, tmp_path: Path, capsys: Captured) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["predict", str(run), str(pictures), "--show", str(sheet)]) == 0
    assert f"shown in {sheet}" in capsys.readouterr().err
    with Image.open(sheet) as drawn:
        pixels = np.asarray(drawn.convert("L")).astype(int)
    black = (pixels < 8).all(axis=0)
    assert black.sum() == 0  # no column is black throughout: there is a margin
    first = pixels[60:140]
    edges = np.flatnonzero(np.diff((first < 250).any(axis=0).astype(int)) == 1)
    assert len(edges) == 5  # as many pictures stand in the row


def test_data_show_counts_what_it_draws(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    assert main(["data", "show", "net.yaml", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["images"] == {"train": 1293, "validation": 144, "test": 360}
    assert {split: sum(counts.values()) for split, counts in row["classes"].items()} == row["images"]
    assert row["picture"] == "net-data.png"
    assert (tmp_path / "net-data.png").is_file()
    assert main(["data", "show", "net.yaml", "-o", "other.png"]) == 0
    out = capsys.readouterr().out
    assert f"mean {row['mean'][0]:.4f}" in out
    lines = out.splitlines()
    start = next(
        number for number, line in enumerate(lines) if line.split() == ["class", "train", "validation", "test"]
    )
    assert lines[start + 4].split() == ["3", *(str(row["classes"][split]["3"]) for split in row["images"])]
    assert lines[-1] == "shown in other.png"


@pytest.mark.parametrize(
    "source",
    [
        "{type: synthetic, shape: [3, 8, 8], classes: 3, target: mask, train: 5, test: 2}",
        "{type: synthetic, shape: [1, 8, 8], target: values, train: 5, test: 2}",
        "{type: synthetic, shape: [1, 8, 8], classes: 40, target: classes, train: 5, test: 2}",
        "{type: synthetic, shape: [1, 8, 8], classes: 40, train: 90, test: 2}",
    ],
)
def test_data_show_draws_every_kind_of_target(source: str, tmp_path: Path, capsys: Captured) -> None:
    spec = tmp_path / "net.yaml"
    shape = source.split("shape: ")[1].split("]")[0] + "]"
    spec.write_text(f"cnnspec: 1\ninput: {shape}\nlayers: [relu]\ndata: {{source: {source}}}\n")
    picture = tmp_path / "sheet.png"
    assert main(["data", "show", str(spec), "-o", str(picture)]) == 0
    assert str(picture) in capsys.readouterr().out
    assert picture.stat().st_size > 1000


def test_data_show_takes_one_spec(capsys: Captured) -> None:
    assert main(["data", "show", "mnist"]) == 2
    assert "show takes one spec file" in capsys.readouterr().err


def test_pixel_statistics_are_those_of_numpy(tmp_path: Path, capsys: Captured) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 3, 5, 6)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", x=pixels, y=np.arange(40) % 2)
    np.savez(tmp_path / "test.npz", x=pixels, y=np.arange(40) % 2)
    spec = tmp_path / "net.yaml"
    source = "{type: npz, train: train.npz, test: test.npz}"
    layers = "[flatten, {type: dense, units: 2}]"
    spec.write_text(f"cnnspec: 1\ninput: [3, 5, 6]\nlayers: {layers}\ndata: {{source: {source}}}\n")
    assert main(["data", "show", str(spec), "--json", "-o", str(tmp_path / "sheet.png")]) == 0
    row = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(row["mean"], (pixels / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(row["deviation"], (pixels / 255).std(axis=(0, 2, 3)), rtol=1e-10)
