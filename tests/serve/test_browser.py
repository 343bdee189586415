"""The page in a browser: it says what a drawing is as it is drawn, and shows the network's own numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.data import Data
from cnnspec.serve import Server
from tests.browser import CONTRAST, chromium, opened, violations
from tests.serve.server import serving, trained


@pytest.fixture(scope="module")
def network() -> tuple[Model, Data]:
    return trained()


@pytest.fixture(scope="module")
def server(network: tuple[Model, Data]) -> Iterator[Server]:
    with serving(*network) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def shown(browser: Any, server: Server, **options: Any) -> tuple[Any, list[str]]:
    page, heard = opened(browser, server.address, **options)
    page.wait_for_selector("#thumbnails button")
    return page, heard


def pick(page: Any, number: int) -> None:
    """Choose a test image, and wait for its layers."""
    page.evaluate("document.getElementById('layers').hidden = true")
    page.locator("#thumbnails button").nth(number).click()
    page.wait_for_selector("#layers:not([hidden])")


def test_axe_finds_no_violation(browser: Any, server: Server) -> None:
    page, _ = shown(browser, server, theme="dark", width=360)
    pick(page, 1)
    assert violations(page) == []
    page.close()


def test_it_tells_a_drawn_digit(browser: Any, server: Server) -> None:
    page, heard = shown(browser, server)
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    points = [
        (
            x + 0.23 * box["width"] * math.cos(2 * math.pi * i / 24),
            y + 0.38 * box["height"] * math.sin(2 * math.pi * i / 24),
        )
        for i in range(25)
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()
    page.wait_for_selector("#layers:not([hidden])")
    page.locator("#status", has_text=re.compile("^0, ")).wait_for()
    assert page.locator(".class").count() == 10
    assert page.locator(".class").first.inner_text().startswith("0")
    assert heard == []
    page.close()


def test_the_window_shows_the_numbers_of_the_model(browser: Any, server: Server, network: tuple[Model, Data]) -> None:
    model, data = network
    page, heard = shown(browser, server)
    pick(page, 3)
    prepared = data.test.pixels[3:4]
    for layer, filter, row, column in (("conv2d_1", 4, 0, 7), ("conv2d_2", 6, 5, 2)):
        page.locator("figure", has_text=f"{layer} ").locator("button").click()
        words = page.locator("#target-words", has_text=f"{layer}, filter 0")
        words.wait_for(state="attached")  # the weights of a layer are fetched when it is chosen
        for name, value in (("filter", filter), ("row", row), ("column", column)):
            page.fill(f"#{name}", str(value))
        expected = model.activations(prepared, layer)[0, filter, row, column]
        told = page.locator("#sum").inner_text()
        computed = float(told.split("together ")[1].split(".  ")[0].split(". The")[0].replace("−", "-"))
        assert float(page.locator("#said").inner_text()) == pytest.approx(expected, rel=1e-3)
        assert computed == pytest.approx(expected, rel=2e-3, abs=2e-4)
        assert page.locator("#numbers td").count() == 9
    assert heard == []
    page.close()


def test_pictures_of_layers_are_the_activations_of_the_model(
    browser: Any, server: Server, network: tuple[Model, Data]
) -> None:
    model, data = network
    page, _ = shown(browser, server)
    pick(page, 5)
    expected = model.activations(data.test.pixels[5:6], "relu_1")[0, 0]
    canvas = page.locator("figure", has_text="relu_1 ").locator("canvas")
    pixels = canvas.evaluate(
        "(canvas) => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 === 0)"
    )
    whole = model.activations(data.test.pixels[5:6], "relu_1")[0]
    scaled = (expected - whole.min()) * 255 / (whole.max() - whole.min())
    np.testing.assert_allclose(np.reshape(pixels, (8, 8)), scaled, atol=0.51)
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_is_quiet_and_legible_and_fits(width: int, theme: str, browser: Any, server: Server) -> None:
    page, heard = shown(browser, server, width=width, theme=theme)
    pick(page, 0)
    page.locator("#layers button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert heard == []
    page.close()


def test_a_file_that_is_no_picture_is_said(browser: Any, server: Server) -> None:
    page, _ = shown(browser, server)
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#status.error")
    assert "cannot be read as a picture" in page.locator("#status").inner_text()
    page.close()
