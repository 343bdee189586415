"""A program that uses all of the public interface, typed strictly: mypy checks it, and a test runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import cnnspec
from cnnspec.train.fit import Progress

TEXT = """
cnnspec: 1
name: sample
input: [1, 8, 8]
layers: [{type: conv2d, filters: 4, kernel_size: 3, activation: relu}, flatten, {type: dense, units: 10}]
data: {source: digits}
train: {epochs: 1, batch_size: 64}
"""


class FewSteps(cnnspec.Callback):
    """Ends a training after some steps."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.steps = 0
        self.rows: list[Mapping[str, Any]] = []

    def on_step(self, progress: Progress) -> None:
        """Count, and stop at the last one."""
        self.steps += 1
        if self.steps == self.most:
            raise cnnspec.StopTraining

    def on_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(metrics)


def mistakes(text: str) -> list[str]:
    """The codes of what is wrong with a spec."""
    try:
        cnnspec.compile(text)
    except cnnspec.SpecError as error:
        found: tuple[cnnspec.Diagnostic, ...] = tuple(error.diagnostics)
        return [diagnostic.code for diagnostic in found]
    return []


def cures(folder: Path) -> list[str | None]:
    """What errors say is to be done."""
    told = []
    for call in (
        lambda: cnnspec.load(folder / "nothing.npz"),
        lambda: cnnspec.compile(TEXT, plugins=[str(folder / "nothing.py")]),
        lambda: cnnspec.compile(TEXT.replace("digits", "npz")).fit(data_dir=folder),
    ):
        try:
            call()
        except (cnnspec.RunError, cnnspec.PluginError, cnnspec.DataError) as error:
            told.append(error.help)
    return told


def main(folder: Path) -> tuple[float | None, list[str], list[str | None]]:
    """Train, score, look, keep, and read again, in a folder."""
    path = folder / "sample.yaml"
    path.write_text(TEXT, encoding="utf-8")
    spec = assert_type(cnnspec.load_spec(path), cnnspec.Spec)
    model = assert_type(cnnspec.compile(spec), cnnspec.Model)
    history, watcher = cnnspec.History(), FewSteps(10)
    line = cnnspec.ProgressLine(1)
    rows = assert_type(model.fit(callbacks=[history, watcher, line], progress=False), list[dict[str, Any]])

    data = model.data()
    assert sum(1 for image, _ in data.test if image.shape == (1, 8, 8)) == len(data.test)
    assert assert_type(data.class_names, tuple[str, ...])[0] == "0"

    random = np.random.default_rng(0)
    images: npt.NDArray[np.uint8] = random.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 10
    model.fit(images, labels, validation=0.5, epochs=1, progress=False)
    score = assert_type(model.evaluate(images, labels), cnnspec.Score)
    outputs = model.predict(images)
    maps = model.activations(images, "conv2d_1")
    parameters: Mapping[str, npt.NDArray[Any]] = model.params
    assert (outputs.shape, maps.shape, parameters["dense_1.bias"].shape) == ((20, 10), (20, 4, 6, 6), (10,))
    assert len(rows) <= 1
    assert len(history.losses) >= watcher.most - 1

    assert_type(model.summary(), str)
    model.save(folder / "sample.npz")
    again = assert_type(cnnspec.load(folder / "sample.npz"), cnnspec.Model)
    assert (again.predict(images) == outputs).all()
    return score.accuracy, mistakes(TEXT.replace("flatten", "flaten")), cures(folder)
