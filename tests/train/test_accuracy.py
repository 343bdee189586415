"""The specs reach what the README says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspec.api import compile

SPECS = Path(__file__).parents[2] / "specs"


def test_lenet_on_the_digits() -> None:
    rows = compile(SPECS / "lenet.yaml").fit()
    assert rows[-1]["test.accuracy"] >= 0.98  # as the spec requires; five seeds gave 0.981 to 0.992


@pytest.mark.slow
def test_lenet_on_mnist(shared_data: Path) -> None:
    rows = compile(SPECS / "lenet-mnist.yaml").fit(data_dir=shared_data)
    assert len(rows) <= 5
    assert rows[-1]["test.accuracy"] >= 0.99


@pytest.mark.slow
def test_the_experiment_of_2016(shared_data: Path) -> None:
    rows = compile(SPECS / "classic-2016.yaml").fit(data_dir=shared_data)
    assert rows[-1]["train.loss"] <= 0.10
    assert rows[-1]["test.accuracy"] >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "least"), [("mnist-best", "mnist", 0.9955), ("fashion-best", "fashion-mnist", 0.935)]
)
def test_the_best(shared_data: Path, name: str, data: str, least: float) -> None:
    rows = compile(SPECS / f"{name}.yaml").fit(data_dir=shared_data / data)
    assert rows[-1]["test.accuracy"] >= least
