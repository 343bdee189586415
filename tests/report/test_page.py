"""The page about a run: what it shows is right, all of it is there, and nothing in it asks for anything outside."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import cnnspec
from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import Data, open_data
from cnnspec.report.chart import chart, line_of
from cnnspec.report.inside import ailing, health
from cnnspec.report.page import RunContent, Times, comparison_page, run_page
from cnnspec.report.png import LARGEST, around_zero, picture, png, stretched, tiled

pytest.importorskip("jinja2")

ROOT = Path(__file__).parents[2]
NET = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3}
  - relu
  - flatten
  - {type: dense, units: 10, id: logits}
data: {source: digits, validation: {fraction: 0.1}, augment: [{type: shift, pixels: 1}]}
train: {epochs: 3, optimizer: {type: sgd, learning_rate: 0.05}}
"""
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Every element with its attributes, and the text in each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.words.setdefault(tag, []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]

    def text(self, tag: str) -> str:
        return " ".join("".join(self.words.get(tag, [])).split())


def opened(text: str) -> Page:
    """The page, which is whole in itself: pictures are in it, links stay in it, and what is linked is there."""
    page = Page(text)
    assert not page.open
    assert [tag for tag, _ in page.elements].count("script") == 1
    identifiers = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(identifiers)) == len(identifiers)
    for tag, found in page.elements:
        for name in ("src", "href", "srcset", "action", "poster"):
            value = found.get(name)
            assert value is None or value.startswith("data:") or value[1:] in identifiers, (tag, value)
        assert tag != "img" or found.get("alt")
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", text)
    return page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings: a whole one, one of one epoch, one that was cut short, one that diverged, and an autoencoder."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "net.yaml").write_text(NET)
    words = ["train", str(folder / "net.yaml"), "--quiet", "--out", str(folder)]
    assert main(words) == 0
    assert main([*words, "--set", "name=short", "--set", "train.epochs=1"]) == 0
    assert main([*words, "--set", "name=cut", "--max-steps", "3"]) == 0
    rate = ["--set", "train.optimizer.learning_rate=1e30"]
    assert main([*words, "--set", "name=diverged", *rate]) == 4
    words[1] = str(ROOT / "specs" / "autoencoder.yaml")
    assert main([*words, "--set", "train.epochs=1"]) == 4  # what it requires takes longer
    return folder


def page_of(run: Path) -> Page:
    assert main(["report", str(run)]) == 0
    return opened((run / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["net", "short", "cut", "diverged", "autoencoder"])
def test_every_run_has_a_page(name: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of(runs / name)
    assert capsys.readouterr().out == f"{runs / name / 'report.html'}\n"
    assert (runs / name / "report.html").stat().st_size < 1_000_000
    headings = page.text("h2")
    for heading in ("Inside", "Layers", "Spec", "Facts", "Answers"):
        assert heading in headings
    assert ("Curves" in headings) == (name != "diverged")
    assert ("Finished" in page.text("header")) == (name != "diverged")
    assert len(page.all("figure")) > 3
    assert "Images in two splits" in page.text("h3")


def test_the_matrix_counts_as_the_score_does_and_its_numbers_lead_to_pictures(runs: Path) -> None:
    text = (page_of(runs / "net"), (runs / "net" / "report.html").read_text(encoding="utf-8"))[1]
    model = cnnspec.compile(runs / "net" / "spec.yaml")
    model.load(runs / "net" / "last.npz")
    confusion = model.score(data_of(model).test).confusion
    assert confusion is not None
    cells = re.findall(r'<a href="#cell-(\d+)-(\d+)"[^>]*>(\d+)</a>', text)
    assert {(int(t), int(p)): int(n) for t, p, n in cells} == {
        (t, p): int(confusion[t, p]) for t, p in np.argwhere(confusion).tolist()
    }
    for t, p, n in cells:
        section = text.split(f'id="cell-{t}-{p}"')[1].split("</section>")[0]
        assert section.count("<img") == min(int(n), 24, max(1, 240 // len(cells)))


def test_layers_are_measured_and_norms_are_drawn(runs: Path) -> None:
    page = page_of(runs / "net")
    text = (runs / "net" / "report.html").read_text(encoding="utf-8")
    header, *rows = re.findall(r"<tr>(.*?)</tr>", text.split('aria-label="layers"')[1].split("</table>")[0], re.DOTALL)
    titles = re.findall(r"<th[^>]*>(.*?)</th>", header)
    place = titles.index("forward µs")
    measured = {}
    for row in rows:
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        assert len(cells) == len(titles)
        measured[cells[0]] = cells[place : place + 2]
    assert all(float(time) > 0 for time in (*measured["conv2d_1"], *measured["logits"]))
    titles = [figure.get("aria-label") for figure in page.all("figure")]
    assert "Norm of the gradient by epoch; the arrow keys read values" in titles


def data_of(model: Model) -> Data:
    assert model.spec.data is not None
    return open_data(model.spec.data, seed=model.spec.seed, input=model.spec.input, output=model.graph.output.shape)


def test_the_worst_have_the_least_probability_of_their_class(runs: Path) -> None:
    page_of(runs / "net")
    text = (runs / "net" / "report.html").read_text(encoding="utf-8")
    model = cnnspec.compile(runs / "net" / "spec.yaml")
    model.load(runs / "net" / "last.npz")
    test = data_of(model).test
    logits = model.outputs(test.pixels).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    worst = np.argsort(chances[np.arange(len(test)), test.labels])[:32].tolist()
    part = text.split("The 32 worst")[1].split("</details>")[0]
    assert [int(number) for number in re.findall(r">image (\d+)<", part)] == worst
    assert f"{chances[worst[0]].max():.1%}" in part


def test_figures_of_every_epoch_and_the_origins_of_the_spec(runs: Path) -> None:
    page = page_of(runs / "net")
    text = (runs / "net" / "report.html").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (runs / "net" / "metrics.jsonl").read_text().splitlines()]
    figures = [json.loads(found["data-numbers"] or "") for found in page.all("figure") if "data-numbers" in found]
    assert [line["name"] for line in figures[0]["lines"]] == ["train", "validation", "test"]
    assert [point[0] for point in figures[0]["lines"][0]["points"]] == [1, 2, 3]
    for (_, shown), row in zip(figures[0]["lines"][0]["points"], rows, strict=True):
        assert float(shown) == pytest.approx(row["train.loss"], rel=1e-3)
    assert f"{rows[-1]['seconds']:.5g}" in text
    assert "net.yaml:6:" in page.text("pre")
    assert "# default" in page.text("pre")
    assert json.loads((runs / "net" / "run.json").read_text())["versions"]["numpy"] in page.text("table")


def test_names_stay_text() -> None:
    model = cnnspec.compile(cnnspec.spec.loads(NET))
    data = data_of(model)
    data = dataclasses.replace(data, class_names=(HOSTILE, *data.class_names[1:]))
    renamed = [dataclasses.replace(node, name=HOSTILE) if node.name == "logits" else node for node in model.graph.nodes]
    model.graph = dataclasses.replace(model.graph, nodes=tuple(renamed), output_name=HOSTILE, name=HOSTILE)
    content = RunContent(HOSTILE, {"command": HOSTILE, "results": {}, "versions": {HOSTILE: HOSTILE}}, [], HOSTILE)
    page = opened(run_page(content, model, data, [HOSTILE], HOSTILE, Times(HOSTILE, {})))
    for tag in ("title", "h1", "pre", "td", "th", "p"):
        assert HOSTILE in page.text(tag)
    opened(comparison_page([content, dataclasses.replace(content, name='"><img src=x>', spec="</pre><b>")]))


def test_only_what_differs_is_compared(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "both.html"
    assert main(["report", str(runs / "net"), str(runs / "short"), "-o", str(output)]) == 0
    page = opened(output.read_text(encoding="utf-8"))
    lines = [line.strip() for line in page.words["pre"] if line.strip()]
    assert {line[2:].split(":")[0].strip() for line in lines} == {"name", "epochs"}
    names = {line["name"] for line in json.loads(page.all("figure")[0]["data-numbers"] or "")["lines"]}
    assert {"net train", "short train", "net validation", "short validation"} <= names


def test_a_run_whose_data_is_gone(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    x, y = numbers.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "net.yaml").write_text(NET.replace("source: digits", "source: {type: npz, train: set.npz}"))
    where = ["--out", str(tmp_path), "--data", str(tmp_path)]
    assert main(["train", str(tmp_path / "net.yaml"), "--quiet", *where]) == 0
    (tmp_path / "set.npz").unlink()
    page = page_of(tmp_path / "net")
    assert "The data could not be read" in page.text("p")
    assert "set.npz" in page.text("p")
    assert "Curves" in page.text("h2")
    assert "Answers" not in page.text("h2")


def test_without_jinja2_the_cure_is_told(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", str(runs / "short")]) == 4
    assert "python -m pip install 'cnnspec[report]'" in capsys.readouterr().err


def test_dead_units_and_saturated_layers_are_named() -> None:
    text = NET.replace(
        "  - relu\n", "  - relu\n  - {type: conv2d, filters: 2, kernel_size: 1}\n  - {type: tanh, id: flat}\n"
    )
    model = cnnspec.compile(cnnspec.spec.loads(text))
    model.params["conv2d_1.weight"][4] = 0
    model.params["conv2d_1.bias"][4] = -1
    model.params["conv2d_2.weight"][...] = 0
    model.params["conv2d_2.bias"][...] = 9
    found, count = health(model, data_of(model).test.pixels)
    assert count == 256
    told = ailing(model.graph, found)
    assert any(line.startswith("relu_1: 1 of 6 units are 0 for every image: 4") for line in told)
    assert "flat: 100% of its values lie at an end of its range" in told
    assert not any(line.startswith("conv2d_1") for line in told)


def test_activations_are_those_of_the_network() -> None:
    text = NET.replace("  - relu\n", "  - batch_norm\n  - relu\n  - {type: dropout, rate: 0.5}\n")
    model = cnnspec.compile(cnnspec.spec.loads(text))
    images = data_of(model).test.pixels[:150]
    np.testing.assert_allclose(model.activations(images, "logits"), model.predict(images), rtol=1e-4, atol=1e-5)
    maps = model.activations(images, "relu_1")
    assert maps.shape == (150, 6, 6, 6)
    assert maps.min() == 0
    np.testing.assert_array_equal(model.activations(images, "dropout_1"), maps)
    assert model.activations(images[:0], "relu_1").shape == (0, 6, 6, 6)
    with pytest.raises(ValueError, match=r"no layer 'relu_2'.*relu_1"):
        model.activations(images, "relu_2")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_holds_the_bytes(shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(png(pixels)))), pixels)


def test_pictures_are_shrunk_and_tiled() -> None:
    image = pytest.importorskip("PIL.Image")

    def read(uri: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.asarray(image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))

    large = np.arange(3 * 200 * 130).reshape(3, 200, 130).astype(np.uint8)
    assert max(read(picture(large)).shape) <= LARGEST
    assert picture(np.zeros((4, 1, 1), np.uint8)) == picture(np.zeros(9, np.uint8)) == ""
    tiles = read(tiled(np.stack([np.full((2, 3), value, np.uint8) for value in (0, 50, 100)]), 2))
    assert tiles.tolist() == [[0] * 3 + [128] + [50] * 3] * 2 + [[128] * 7] + [[100] * 3 + [128] * 4] * 2
    assert stretched(np.array([np.nan, -1.0, 3.0])).tolist() == [64, 0, 255]
    assert around_zero(np.array([0.0])).tolist() == [[255, 255, 255]]


def test_charts_of_few_many_and_odd_values() -> None:
    rows = [{"epoch": epoch, "train.loss": 1 / epoch} for epoch in range(1, 1001)]
    drawn = chart("Loss", [line_of(rows, "train.loss", "train", 0, 0)])
    assert drawn is not None
    assert 100 < drawn.svg.count("L") < 400
    alone = chart("Loss", [line_of(rows[:1], "train.loss", "train", 0, 0)])
    assert alone is not None
    assert alone.reading == "epoch 1: train 1"
    assert "<circle" in alone.svg
    odd: list[dict[str, float | None]] = [{"epoch": 1, "train.loss": float("nan")}, {"epoch": 2}]
    assert chart("Loss", [line_of(odd, "train.loss", "train", 0, 0)]) is None
    zero = chart("Loss", [line_of([{"epoch": 1, "train.loss": 0.0}], "train.loss", "train", 0, 0)])
    assert zero is not None
    assert "nan" not in zero.svg
