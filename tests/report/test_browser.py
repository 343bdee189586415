"""The page in a browser: nothing is complained of or asked for, narrow screens suffice, and everything can be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cnnspec.cli import main
from tests.browser import CONTRAST, chromium, opened, violations

pytest.importorskip("jinja2")
NET = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, id: a_layer_with_quite_a_long_name_that_does_not_break}
  - relu
  - flatten
  - {type: dense, units: 10}
data: {source: digits, validation: {fraction: 0.1}, augment: [{type: shift, pixels: 1}]}
train: {epochs: 3, optimizer: {type: sgd, learning_rate: 0.05}}
"""
MASKS = """
cnnspec: 1
name: masks
input: [3, 12, 12]
layers: [{type: conv2d, filters: 6, kernel_size: 3, padding: same}, relu, {type: conv2d, filters: 4, kernel_size: 1}]
data: {source: {type: synthetic, shape: [3, 12, 12], classes: 4, target: mask, train: 64, test: 32}}
train: {epochs: 1}
"""
SCREENS = [
    *[("run", width, theme) for width in (360, 1280) for theme in ("light", "dark")],
    ("comparison", 360, "light"),
    ("comparison", 1280, "dark"),
    ("masks", 360, "dark"),
    ("masks", 1280, "light"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of a report, of a comparison, and of the report of a network whose answers are masks."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "net.yaml").write_text(NET)
    words = ["train", str(folder / "net.yaml"), "--quiet", "--out", str(folder)]
    assert main(words) == main([*words, "--set", "seed=1"]) == 0
    assert main(["report", str(folder / "net")]) == 0
    both = folder / "both.html"
    assert main(["report", str(folder / "net"), str(folder / "net-2"), "-o", str(both)]) == 0
    (folder / "masks.yaml").write_text(MASKS)
    assert main(["train", str(folder / "masks.yaml"), "--quiet", "--out", str(folder)]) == 0
    assert main(["report", str(folder / "masks")]) == 0
    runs = {name: (folder / place / "report.html").as_uri() for name, place in (("run", "net"), ("masks", "masks"))}
    return {**runs, "comparison": both.as_uri()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize(("kind", "width", "theme"), SCREENS)
def test_it_is_quiet_and_legible_and_fits(
    kind: str, width: int, theme: str, browser: Any, pages: dict[str, str]
) -> None:
    page, heard = opened(browser, pages[kind], width=width, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (theme == "light")
    assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length") == 0
    assert page.evaluate("document.querySelectorAll('.chart svg .line').length") > 3
    assert heard == []
    page.close()


@pytest.mark.parametrize(("kind", "width", "theme"), SCREENS[1::3])
def test_axe_finds_no_violation(kind: str, width: int, theme: str, browser: Any, pages: dict[str, str]) -> None:
    page, _ = opened(browser, pages[kind], width=width, theme=theme)
    assert violations(page) == []
    page.close()


def test_a_number_of_the_matrix_opens_its_pictures(browser: Any, pages: dict[str, str]) -> None:
    page, heard = opened(browser, pages["run"])
    link = page.locator(".matrix a").first
    target = page.locator(f"section{link.get_attribute('href')}")
    assert not target.is_visible()
    link.focus()
    page.keyboard.press("Enter")
    assert target.is_visible()
    assert 0 < target.locator("img").count() <= int(link.inner_text())
    assert page.locator(".cell:visible").count() == 1
    assert heard == []
    page.close()


def test_charts_tell_values_under_the_pointer_and_by_keys(browser: Any, pages: dict[str, str]) -> None:
    page, heard = opened(browser, pages["run"])
    figure = page.locator(".chart").first
    reading = figure.locator(".reading")
    assert reading.inner_text().startswith("epoch 3: train ")
    box = figure.locator("svg").first.bounding_box()
    page.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + 50)
    assert reading.inner_text().startswith("epoch 1: train ")
    page.mouse.move(0, 0)
    assert reading.inner_text().startswith("epoch 3: ")
    figure.focus()
    page.keyboard.press("ArrowLeft")
    assert reading.inner_text().startswith("epoch 2: ")
    page.keyboard.press("Home")
    assert reading.inner_text().startswith("epoch 1: ")
    assert heard == []
    page.close()


def test_keys_alone_reach_everything(browser: Any, pages: dict[str, str]) -> None:
    page, _ = opened(browser, pages["run"])
    wanted = page.evaluate("document.querySelectorAll('main a, main summary, main .scroll, main .chart').length")
    hidden = page.evaluate("[...document.querySelectorAll('.cell a')].length")
    reached = set()
    for _ in range(wanted + 30):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const a = document.activeElement; return a.closest('main') ?"
            " [...document.querySelectorAll('main *')].indexOf(a) : -1; })()"
        )
        reached.add(at)
    assert len(reached - {-1}) == wanted - hidden
    page.close()


def test_it_prints_with_what_is_folded_away(browser: Any, pages: dict[str, str]) -> None:
    page, heard = opened(browser, pages["run"], theme="dark")
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = false")
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) == []
    assert heard == []
    page.close()
