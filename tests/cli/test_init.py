"""`init`: templates, known networks, and specs of a person's own pictures that train to right predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.zoo import zoo

Image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def draw(folder: str, count: int, mode: str = "RGB", size: int = 40) -> None:
    """Squares, discs and stripes, of many sizes and colours."""
    random = np.random.default_rng(len(folder))
    for number in range(count):
        side = size + int(random.integers(0, 9))
        y, x = np.mgrid[:side, :side] / side - 0.5
        shape = {"square": abs(x) + abs(y) < 0.4, "disc": np.hypot(x, y) < 0.3, "stripe": abs(x) < 0.1}
        picture = np.full((side, side, 3), random.integers(0, 90, 3)) + 60 * random.random((side, side, 1))
        picture[shape[Path(folder).name]] = random.integers(150, 256, 3)
        Path(folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype("uint8")).convert(mode).save(f"{folder}/{number}.png")


def test_a_folder_of_pictures_becomes_a_spec_that_learns_them(capsys: Captured) -> None:
    for name in ("square", "disc", "stripe"):
        draw(f"my pictures/{name}", 24)
    assert main(["init", "--from-data", "my pictures", "-o", "specs.yaml"]) == 0
    assert "wrote specs.yaml; try: cnnspec train specs.yaml" in capsys.readouterr().out
    text = Path("specs.yaml").read_text()
    assert "# 72 pictures of 3 classes, 40x40 to 48x48" in text
    assert "input: [3, 32, 32]" in text
    assert "one output a class: disc, square, stripe" in text
    assert main(["validate", "--strict", "specs.yaml"]) == 0
    short = ["--set", "train.epochs=2", "--quiet", "--threads", "1"]
    assert main(["train", "specs.yaml", *short]) == 0


@pytest.mark.slow
def test_the_spec_learns_the_pictures(capsys: Captured) -> None:
    for name in ("square", "disc", "stripe"):
        draw(f"pictures/{name}", 24)
    assert main(["init", "--from-data", "pictures"]) == 0
    assert main(["train", "pictures.yaml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["predict", "runs/pictures", "pictures/disc/0.png", "--format", "csv", "--top", "1"]) == 0
    assert "disc" in capsys.readouterr().out


def test_grey_pictures_two_classes_and_splits(capsys: Captured) -> None:
    for split, count in (("train", 12), ("val", 4)):
        for name in ("disc", "stripe"):
            draw(f"data/{split}/{name}", count, "L", 20)
    Path("data/train/disc/broken.png").write_bytes(b"no picture")
    assert main(["init", "--from-data", "data"]) == 0
    assert "1 of the pictures that were looked at cannot be read" in capsys.readouterr().err
    text = Path("data.yaml").read_text()
    assert "input: [1, 24, 24]" in text
    assert "units: 1}" in text
    assert "binary_cross_entropy" in text
    assert "on_error: skip" in text
    assert "  validation: {" not in text
    assert main(["train", "data.yaml", "--max-steps", "2", "--quiet", "--threads", "1"]) == 0


def test_a_table_of_pictures_becomes_a_spec_that_reads_it(capsys: Captured) -> None:
    for name in ("square", "disc"):
        draw(f"pics/{name}", 4)
    lines = [f"{name}/{number}.png,{name}" for name in ("square", "disc") for number in range(4)]
    Path("pics/list.csv").write_text("\n".join(["file,label", *lines]))
    assert main(["init", "--from-data", "pics/list.csv", "-o", "list.yaml"]) == 0
    capsys.readouterr()
    assert main(["data", "show", "list.yaml", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert list(counts["classes"]["train"]) == ["disc", "square"]


@pytest.mark.parametrize(
    ("folder", "help"),
    [
        ("none", "name a folder with a folder of pictures for each class"),
        ("empty", "put pictures into DIR/train/CLASS/"),
        ("one", "put the pictures of each class into a folder with its name"),
        ("more.zip", "unpack it if it is an archive"),
        ("shapes.npz", "write data: {source: {type: npz, train: shapes.npz}} into a spec of cnnspec init lenet"),
        ("shapes.csv.gz", "{source: {type: csv, train: shapes.csv.gz, shape: [channels, height, width]}}"),
        ("torn", "repair or replace it"),
        ("void", "put pictures (PNG, JPEG, ...) into it, or remove the folder"),
        ("pairs", "cnnspec init unet-shapes, with data: {source: image_masks, root: pairs}"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused(folder: str, help: str, capsys: Captured) -> None:
    Path("empty").mkdir()
    draw("one/disc", 2)
    for name in ("a", "b"):
        Path(f"torn/{name}").mkdir(parents=True)
        Path(f"torn/{name}/x.png").write_text("no picture")
    draw("void/disc", 2)
    draw("void/square", 2)
    Path("void/nothing").mkdir()
    for name in ("images", "masks"):
        Path(f"pairs/train/{name}").mkdir(parents=True)
        Image.new("L", (8, 8)).save(f"pairs/train/{name}/a.png")
    for name in ("more.zip", "shapes.npz", "shapes.csv.gz"):
        Path(name).touch()
    assert main(["init", "--from-data", folder]) == 4
    assert help in capsys.readouterr().err.split("help: ")[1]
    assert not Path(f"{folder}.yaml").exists()


@pytest.mark.parametrize("name", sorted(zoo()))
def test_known_networks_are_copied(name: str, capsys: Captured) -> None:
    if "extends" in zoo()[name].read_text().split("layers")[0]:
        pytest.skip("it extends another one")
    assert main(["init", name, "-o", "mine.yaml"]) == 0
    assert main(["validate", "mine.yaml"]) == 0


def test_the_list_and_a_name_that_is_not_in_it(capsys: Captured) -> None:
    assert main(["init"]) == 0
    told = capsys.readouterr().out
    assert "resnet18" in told
    assert "lenet" in told.splitlines()[0]
    assert main(["init", "resnet8"]) == 2
    assert "did you mean resnet or resnet18" in capsys.readouterr().err
