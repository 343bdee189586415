"""The page in a browser: nothing is complained of or asked for, narrow screens suffice, and everything can be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from cnnspec.cli import main

pytest.importorskip("jinja2")
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: python -m pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
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
# For every text: the WCAG contrast of its colour with the first background behind it that is not transparent.
CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) =>
    [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    let behind = element;
    while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const drawn = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [rgb(drawn), rgb(getComputedStyle(behind || document.body).backgroundColor)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName} ${walker.currentNode.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of a report and of a comparison."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "net.yaml").write_text(NET)
    words = ["train", str(folder / "net.yaml"), "--quiet", "--out", str(folder)]
    assert main(words) == main([*words, "--set", "seed=1"]) == 0
    assert main(["report", str(folder / "net")]) == 0
    both = folder / "both.html"
    assert main(["report", str(folder / "net"), str(folder / "net-2"), "-o", str(both)]) == 0
    return {"run": (folder / "net" / "report.html").as_uri(), "comparison": both.as_uri()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, of the system or Playwright's own; skipped where there is neither."""
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium ({str(error).splitlines()[0]})")
        yield started
        started.close()


def opened(browser: Any, address: str, *, width: int = 1280, theme: str = "light") -> tuple[Any, list[str]]:
    """The page in a window, and what it said or asked for, which grows."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("request", lambda asked: None if asked.url.startswith(("data:", "file:")) else heard.append(asked.url))
    page.goto(address)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    return page, heard


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("kind", ["run", "comparison"])
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
