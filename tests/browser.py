"""Pages in headless Chromium, and what is asked of each of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

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
PATIENCE = 300_000  # milliseconds that a page may take on a busy machine
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


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium, of the system or Playwright's own; the test is skipped where there is neither."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: python -m pip install playwright")
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET), timeout=PATIENCE)
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium ({str(error).splitlines()[0]})")
        yield started
        started.close()


def opened(browser: Any, address: str, *, width: int = 1280, theme: str = "light") -> tuple[Any, list[str]]:
    """The page in a window, and what it said or asked of other hosts, which grows."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
    page.set_default_timeout(PATIENCE)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on(
        "request", lambda asked: None if asked.url.startswith(("data:", "file:", address)) else heard.append(asked.url)
    )
    page.goto(address)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    return page, heard


def violations(page: Any) -> list[str]:
    """What axe-core finds against accessibility in a page as it stands; the test is skipped where there is no axe-core.

    AXE_CORE names its axe.min.js, which `npm install axe-core` brings.
    """
    path = os.environ.get("AXE_CORE")
    if not path:
        pytest.skip("no axe-core: npm install axe-core, and name its axe.min.js in AXE_CORE")
    page.evaluate(Path(path).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {rule['help']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
