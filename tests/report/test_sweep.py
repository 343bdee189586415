"""The page of a sweep: every trial is drawn where its values are, and nothing in it asks for anything outside."""

from __future__ import annotations

import re

import pytest

from cnnspec.report.sweep import sweep_page
from cnnspec.sweep.journal import Outcome
from cnnspec.sweep.trials import Trial
from tests.sweep.test_points import sweep_of

pytest.importorskip("jinja2")

RATES = "{from: 0.01, to: 1, scale: log}"
VALUES = f"sweep.values={{train.optimizer.learning_rate: {RATES}, train.loss: [mean_squared_error, huber]}}"
LINE = re.compile(r'<path class="line c(\d)" opacity="[^"]+" d="M([^"]+)"><title>trial (\d+): ')
DOT = re.compile(r'<circle class="dot c(\d)" cx="([^"]+)" cy="([^"]+)" r="4"><title>trial (\d+): ')


def trials() -> list[Trial]:
    found = []
    for number, (rate, loss, figure) in enumerate([(0.01, "mean_squared_error", 3.0), (0.1, "huber", 1.0)], 1):
        point = {"train.optimizer.learning_rate": rate, "train.loss": loss}
        found.append(Trial(number, point, [[Outcome({"validation.loss": figure}, epochs=2)]]))
    failed = Trial(3, {**found[0].point, "train.optimizer.learning_rate": 1.0}, [[Outcome({}, "<script>it broke")]])
    return [*found, failed]


@pytest.fixture
def page() -> str:
    return sweep_page("a & b", sweep_of(VALUES), trials())


def test_lines_go_through_the_values(page: str) -> None:
    lines = {
        int(number): [tuple(map(float, point.split())) for point in points.split("L")]
        for _, points, number in LINE.findall(page)
    }
    assert set(lines) == {1, 2}
    xs = [x for x, _ in lines[1]]
    assert xs == [x for x, _ in lines[2]]
    assert len(xs) == 3
    top, bottom = lines[2][2][1], lines[1][2][1]
    assert top < bottom  # the lower loss is above
    assert lines[1][0][1] == bottom
    assert lines[2][0][1] == pytest.approx((top + bottom) / 2)  # 0.1 is the middle of 0.01 to 1
    assert [colour for colour, _, number in LINE.findall(page) if number == "2"] == ["1"]  # the best stands out


def test_each_value_has_its_dots(page: str) -> None:
    dots = DOT.findall(page)
    assert sorted(number for *_, number in dots) == ["1", "1", "2", "2"]
    first = {number: float(x) for _, x, _, number in dots[:2]}
    assert first["1"] < first["2"]


def test_choices_that_are_mappings_are_told_apart() -> None:
    optimizers = [{"type": "sgd", "learning_rate": rate} for rate in (0.1, 0.2)]
    point = {"train.optimizer": optimizers[0], "data.augment": []}
    values = f"train.optimizer: {optimizers}, data.augment: [[], [{{type: shift, pixels: 1}}], [flip]]"
    trial = Trial(1, point, [[Outcome({"validation.loss": 1.0}, epochs=2)]])
    page = sweep_page("net", sweep_of(f"sweep.values={{{values}}}"), [trial])
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    assert {"sgd 0.1", "sgd 0.2", "[]", "shift 1"} <= set(texts)
    wide = [{"type": "sgd", "learning_rate": rate, "momentum": 0.9} for rate in (0.12345678, 0.12345679)]
    trial = Trial(1, {"train.optimizer": wide[0]}, trial.rungs)
    page = sweep_page("net", sweep_of(f"sweep.values={{train.optimizer: {wide}}}"), [trial])
    assert {"1: sgd 0.12…", "2: sgd 0.12…"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", page))


def test_the_page_is_whole_and_escaped(page: str) -> None:
    assert "a &amp; b" in page
    assert "&lt;script&gt;it broke" in page
    assert "<script>it broke" not in page
    assert "3 trials by random, of which 1 failed. The best is trial 2, with validation.loss 1 " in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
