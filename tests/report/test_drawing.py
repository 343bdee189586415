"""Pictures of networks: everything is there, in every format, and nothing lies on top of anything else."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cnnspec.cli import main
from cnnspec.graph import build
from cnnspec.report.drawing import as_dot, as_mermaid, as_text
from cnnspec.report.outline import Outline, outline
from cnnspec.report.scene import as_svg
from cnnspec.spec import load, loads

ROOT = Path(__file__).parents[2]
NAMES = ["lenet", "resnet20", "resnet50", "googlenet", "densenet121", "autoencoder", "resnet20-a"]
SVG = "{http://www.w3.org/2000/svg}"


MORE = ["unet", "se-resnet50", "shufflenet-v2"]


def drawn(name: str) -> Outline:
    folder = ROOT / "tests" / "graph" / "architectures" if name in MORE else ROOT / "specs"
    return outline(build(load(folder / f"{name}.yaml")))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_and_every_value_is_drawn(name: str) -> None:
    graph = build(load(ROOT / "specs" / f"{name}.yaml"))
    picture = outline(graph)
    assert [box.name for box in picture.boxes] == ["input", *(node.name for node in graph.nodes)]
    assert len(picture.arrows) == sum(len(node.inputs) for node in graph.nodes)
    dot, mermaid, words = as_dot(picture), as_mermaid(picture), as_text(picture)
    assert dot.count(" -> ") == mermaid.count(" -->|") == len(picture.arrows)
    assert len(re.findall(r"^ *n\d+ \[label=", dot, re.MULTILINE)) == len(picture.boxes)
    assert len(re.findall(r"^ *n\d+\[", mermaid, re.MULTILINE)) == len(picture.boxes)
    assert dot.count("subgraph") == mermaid.count("subgraph") == len(picture.frames)
    assert len(words.splitlines()) == len(picture.boxes) + len(picture.frames)
    for box in picture.boxes:
        assert box.name in words


@pytest.mark.parametrize("name", NAMES)
def test_the_svg_has_all_of_it_and_boxes_do_not_overlap(name: str) -> None:
    picture = drawn(name)
    root = ElementTree.fromstring(as_svg(picture))
    rectangles: list[tuple[float, ...]] = []
    for rectangle in root.iter(f"{SVG}rect"):
        if rectangle.get("rx") == "4":
            rectangles.append(tuple(float(rectangle.get(key, "nan")) for key in ("x", "y", "width", "height")))
    assert len(rectangles) == len(picture.boxes)
    assert len([path for path in root.iter(f"{SVG}path") if path.get("marker-end")]) == len(picture.arrows)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for i, (x, y, w, h) in enumerate(rectangles):
        assert min(x, y) >= 0
        assert x + w <= width
        assert y + h <= height
        for a, b, c, d in rectangles[:i]:
            assert x >= a + c or a >= x + w or y >= b + d or b >= y + h


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_no_arrow_crosses_a_box(name: str) -> None:
    """Along their straight parts; the ends lie at the boxes that they join."""
    root = ElementTree.fromstring(as_svg(drawn(name)))
    boxes = []
    for rectangle in root.iter(f"{SVG}rect"):
        if rectangle.get("rx") == "4":
            x, y, w, h = (float(rectangle.get(key, "nan")) for key in ("x", "y", "width", "height"))
            boxes.append((x + 1, x + w - 1, y + 1, y + h - 1))
    crossed = 0
    for path in root.iter(f"{SVG}path"):
        if path.get("marker-end") is None:
            continue
        x, y = 0.0, 0.0
        for letter, words in re.findall(r"([MVHC])([^MVHC]+)", path.get("d", "")):
            numbers = [float(word) for word in words.split()]
            new = {"V": (x, numbers[0]), "H": (numbers[0], y)}.get(letter, (numbers[-2:] or [x])[0:2])
            if letter in "VH":
                left, right, top, bottom = min(x, new[0]), max(x, new[0]), min(y, new[1]), max(y, new[1])
                crossed += sum(left < b and right > a and top < d and bottom > c for a, b, c, d in boxes)
            x, y = new[0], new[1]
    assert crossed == 0


def test_a_picture_is_the_same_every_time() -> None:
    assert as_svg(drawn("resnet20")) == as_svg(drawn("resnet20"))


def test_figures_and_shapes_are_told() -> None:
    words = as_text(drawn("lenet"))
    assert "conv2d 5x5 20" in words
    assert "520 params, 288k MACs, > 20x24x24" in words


def test_what_a_layer_reads_is_named_where_it_is_not_the_one_above() -> None:
    head = "cnnspec: 1\ninput: [2, 4, 4]\n"
    spec = loads(f"{head}layers:\n  - {{id: a, type: relu}}\n  - tanh\n  - {{type: add, from: [a, tanh_1]}}\n")
    last = as_text(outline(build(spec))).splitlines()[-1]
    assert last.endswith("< a, tanh_1")


def test_names_are_escaped() -> None:
    picture = outline(build(load(ROOT / "specs" / "lenet.yaml", ["name=a-b"])))
    assert as_dot(picture).startswith('digraph "a-b" {')
    assert "<title>a-b</title>" in as_svg(picture)


def test_the_verb_writes_what_the_ending_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(ROOT / "specs" / "lenet5.yaml")
    assert main(["graph", spec]) == 0
    assert "dense" in capsys.readouterr().out
    for ending, start in ((".svg", "<svg"), (".dot", "digraph"), (".mmd", "flowchart")):
        path = tmp_path / f"picture{ending}"
        assert main(["graph", spec, "-o", str(path)]) == 0
        assert path.read_text().startswith(start)
    assert main(["graph", spec, "-o", str(tmp_path / "no" / "x.svg")]) == 4
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["lenet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("googlenet", "densenet121"))]
)
def test_a_png_shows_the_boxes_where_the_svg_has_them(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "picture.PNG"
    assert main(["graph", str(ROOT / "specs" / f"{name}.yaml"), "-o", str(path)]) == 0
    root = ElementTree.fromstring(as_svg(drawn(name)))
    with image.open(path) as file:
        picture = file.convert("RGB")
    scale = picture.width / float(root.get("width", 0))
    assert picture.height == pytest.approx(float(root.get("height", 0)) * scale, abs=2)
    boxes = [rectangle for rectangle in root.iter(f"{SVG}rect") if rectangle.get("rx") == "4"]
    for box in boxes:
        x, y = ((float(box.get(key, 0)) + 4) * scale for key in ("x", "y"))
        wanted = tuple(bytes.fromhex(box.get("fill", "")[1:]))
        assert picture.getpixel((round(x), round(y))) == wanted


def test_a_pdf_is_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.pdf"
    assert main(["graph", str(ROOT / "specs" / "lenet.yaml"), "-o", str(path)]) == 0
    assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["picture.md", "picture", "picture.jpg"])
def test_an_unknown_ending_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    spec = str(ROOT / "specs" / "lenet.yaml")
    assert main(["graph", spec, "-o", str(path)]) == 2
    assert ".svg, .png, .pdf" in capsys.readouterr().err
    assert not path.exists()
    assert main(["graph", spec, "-o", str(path), "--format", "dot"]) == 0
    assert path.read_text().startswith("digraph")


def test_a_picture_is_not_printed_as_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(ROOT / "specs" / "lenet.yaml"), "--format", "png"]) == 2
    assert "-o network.png" in capsys.readouterr().err
