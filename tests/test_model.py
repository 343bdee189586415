"""`Model` in Python: arrays are trained on and checked, callbacks watch, models are copied, kept and read again."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import main

NET = """\
cnnspec: 1
name: small
input: [1, 4, 4]
layers: [flatten, {type: dense, units: 8}, relu, {id: logits, type: dense, units: 3}]
train: {epochs: 2, batch_size: 16, optimizer: {type: adam, learning_rate: 0.01}}
"""


def samples(count: int = 60) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, count)
    return random.normal(0, 0.5, (count, 1, 4, 4)) + y[:, None, None, None], y


def model(text: str = NET) -> cnnspec.Model:
    return cnnspec.compile(text, threads=1)


def last(rows: list[dict[str, Any]]) -> str:
    return str(rows[-1]["weights"])


def test_arrays_are_learned() -> None:
    x, y = samples(300)
    net = model()
    rows = net.fit(x, y, validation=0.2, epochs=30, progress=False)
    assert len(rows) == 30
    assert rows[-1]["validation.accuracy"] > 0.9
    assert rows[-1]["test.loss"] is None
    assert (net.evaluate(x, y).accuracy or 0) > 0.9
    assert (net.predict(x).argmax(1) == y).mean() == net.evaluate(x, y).accuracy


def test_a_validation_set_of_ones_own() -> None:
    x, y = samples()
    rows = model().fit(x[:40], y[:40], validation=(x[40:], y[40:]), progress=False)
    assert rows[-1]["validation.loss"] is not None
    alone = model().fit(x[:40], y[:40], progress=False)
    assert [row["weights"] for row in rows] == [row["weights"] for row in alone], "validation changes no bits"


def test_pixels_are_normalised_as_the_spec_says() -> None:
    text = NET.replace("train:", "data: {source: digits, preprocess: [{type: resize, size: [4, 4]}]}\ntrain:")
    text = text.replace("units: 3", "units: 10")
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (40, 1, 8, 8)), random.integers(0, 10, 40)
    first, second = model(text), model(text)
    assert (
        first.fit(x, y, progress=False)[-1]["weights"]
        == second.fit(x.astype("uint8"), y, progress=False)[-1]["weights"]
    )
    with pytest.raises(ValueError, match="expected pixels from 0 to 255, got float64 from 0 to 1"):
        first.fit(x / 255.0 / x.max() * 255, y)


LABELS: dict[str, tuple[str, Any]] = {
    "values": ("mean_squared_error", lambda y: np.stack([y * 2.0, 5 - y], 1)),
    "classes": ("binary_cross_entropy", lambda y: np.stack([y > 0, y > 1], 1)),
    "shares": ("softmax_cross_entropy", lambda y: np.stack([y / 2, 1 - y / 2], 1)),
}


@pytest.mark.parametrize("target", LABELS)
def test_other_targets_are_learned(target: str) -> None:
    loss, labels = LABELS[target]
    source = f"{{type: npz, train: none.npz, shape: [1, 4, 4], target: {target}, classes: [a, b]}}"
    data = f"data: {{source: {source}}}\n"
    text = NET.replace("units: 3", "units: 2").replace("train: {", f"{data}train: {{loss: {loss}, ")
    x, y = samples(200)
    pixels = np.clip(np.rint(100 * (x + 0.5)), 0, 255)
    rows = model(text).fit(pixels, labels(y), epochs=20, progress=False)
    assert rows[-1]["train.loss"] < rows[0]["train.loss"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:-1]), "expected a label for each of 60 images, got 59"),
        (lambda x, y: (x, y + 1), "expected classes from 0 to 2, one for each output, got 1 to 3: take 1 from all"),
        (lambda x, y: (x, y - 1), "got -1 to 1"),
        (lambda x, y: (x, y + 0.5), r"expected classes as whole numbers, got \d\.5"),
        (lambda x, y: (x, y[:, None, None]), r"expected labels of shape \(60,\), got \(60, 1, 1\)"),
        (lambda x, y: (x, y.astype(str)), "number the classes, as numpy.unique"),
        (lambda x, y: (x, np.where(y == 1, np.nan, y)), "labels of finite numbers"),
        (lambda x, y: (x, None), "expected labels y"),
        (lambda x, y: (x[:0], y[:0]), "at least one"),
        (lambda x, y: (x[:, :, :3], y), r"expected images of shape \(n, 1, 4, 4\), got \(60, 1, 3, 4\)"),
        (lambda x, y: (x * np.inf, y), "images of finite numbers"),
        (lambda x, y: (x.astype(str), y), "expected images of numbers"),
        (lambda x, y: (None, y), "expected images x beside y"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    net = model()
    before = net.fingerprint()
    with pytest.raises(ValueError, match=message):
        net.fit(*change(*samples()), progress=False)
    assert net.fingerprint() == before


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0, 0.001])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="expected a validation share that leaves images to train"):
        model().fit(*samples(), validation=share)


class Stopper(cnnspec.Callback):
    def __init__(self, step: int) -> None:
        self.step, self.ends = step, 0

    def on_step(self, progress: Any) -> None:
        if progress.position.step == self.step:
            raise cnnspec.StopTraining

    def on_end(self, history: Any) -> None:
        self.ends += 1


def test_callbacks_watch_and_end_the_training_without_changing_it() -> None:
    x, y = samples()
    history = cnnspec.History()
    net, alone = model(), model()
    rows = net.fit(x, y, callbacks=[history], progress=False)
    assert history.epochs == rows
    assert len(history.losses) == 2 * 4
    assert alone.fit(x, y, progress=False)[-1]["weights"] == rows[-1]["weights"]
    stopper = Stopper(6)
    assert len(model().fit(x, y, callbacks=[stopper], progress=False)) == 1
    assert stopper.ends == 1


def test_progress_is_a_line_that_changes() -> None:
    stream = io.StringIO()
    model().fit(*samples(), validation=0.2, callbacks=[cnnspec.ProgressLine(2, stream)], progress=False)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert lines[0].split("\r")[-1].startswith("epoch 1/2  train.loss ")
    assert "validation.accuracy" in lines[1]
    assert "epoch 2/2  step 3/3  loss " in lines[1]


def test_copies_go_on_to_the_same_bits() -> None:
    x, y = samples()
    net = model()
    net.fit(x, y, progress=False)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (
            twin.fit(x, y, progress=False)[-1]["weights"] == copy.deepcopy(net).fit(x, y, progress=False)[-1]["weights"]
        )
        np.testing.assert_array_equal(copy.deepcopy(net).predict(x), net.predict(x))
    assert net.fit(x, y, progress=False)[-1]["weights"] == twin.fingerprint()


def test_a_model_is_kept_with_its_spec(tmp_path: Path) -> None:
    x, y = samples()
    net = model()
    net.fit(x, y, progress=False)
    net.save(tmp_path / "net.npz")
    again = cnnspec.load(tmp_path / "net.npz", threads=1)
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    assert repr(again) == "<Model small: 1x4x4 -> 3, 163 parameters>"
    with pytest.raises(cnnspec.RunError, match="no checkpoint at"):
        cnnspec.load(tmp_path / "none.npz")
    with pytest.raises(cnnspec.RunError, match=r"is no run directory: it has no spec\.yaml"):
        cnnspec.load(tmp_path)


def test_a_run_is_loaded_with_what_training_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = NET.replace("train:", "data: {source: digits, preprocess: [{type: resize, size: [4, 4]}]}\ntrain:")
    Path("net.yaml").write_text(text.replace("units: 3", "units: 10"))
    assert main(["train", "net.yaml", "--quiet", "--threads", "1"]) == 0
    digits = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8))
    outputs = cnnspec.load("runs/small", threads=1).predict(digits)
    np.testing.assert_array_equal(outputs, cnnspec.load("runs/small/last.npz", threads=1).predict(digits))
    assert outputs.shape == (5, 10)


def test_a_spec_is_a_path_a_text_or_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    said = {
        "cnnspec": 1,
        "name": "small",
        "input": (1, 4, np.int64(4)),
        "layers": ["flatten", {"type": "dense", "units": 8}, "relu", {"id": "logits", "type": "dense", "units": 3}],
        "train": {"epochs": 2, "batch_size": 16, "optimizer": {"type": "adam", "learning_rate": np.float64(0.01)}},
    }
    prints = {cnnspec.compile(given, threads=1).fingerprint() for given in (NET, said, tmp_path / "net.yaml")}
    assert prints == {cnnspec.compile(str(tmp_path / "net.yaml"), ["train.epochs=9"], threads=1).fingerprint()}


def test_a_wrong_spec_prints_its_findings() -> None:
    with pytest.raises(cnnspec.SpecError) as caught:
        model(NET.replace("flatten", "flaten"))
    assert str(caught.value) == "<text>:4:10: error[unknown-type]: unknown layer 'flaten'\nhelp: did you mean flatten?"
    assert [found.code for found in caught.value.diagnostics] == ["unknown-type"]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_parameters_that_are_written_are_seen() -> None:
    net = model()
    before = net.predict(samples()[0])
    net.params["logits.bias"][:] += 1
    np.testing.assert_allclose(net.predict(samples()[0]), before + 1, rtol=0, atol=1e-6)


def test_a_table_in_terminals_and_notebooks() -> None:
    net = model()
    assert net.summary().splitlines()[-1].split() == ["in", "all", "3", "163", "152"]
    assert "<td>logits</td>" in net._repr_html_()


def test_the_data_of_the_spec_are_arrays_that_the_network_takes() -> None:
    text = NET.replace("[1, 4, 4]", "[1, 12, 12]").replace("units: 3", "units: 10")
    text += "data: {source: digits, preprocess: [{type: resize, size: [12, 12]}]}\n"
    net = cnnspec.compile(text)
    rows = net.fit(epochs=1)
    data = net.data()
    assert data.train.pixels.shape[1:] == (1, 12, 12)
    assert net.evaluate(data.test.pixels, data.test.labels).accuracy == rows[-1]["test.accuracy"]
    pairs = list(data.test)
    assert len(pairs) == len(data.test)
    assert np.array_equal(np.stack([image for image, _ in pairs]), data.test.pixels)
    with pytest.raises(cnnspec.RunError, match="no data section"):
        cnnspec.compile(NET).data()


@pytest.mark.parametrize("name", ["two-inputs", "two-heads", "disc"])
def test_a_split_of_any_spec_is_scored_as_it_is(name: str) -> None:
    net = cnnspec.compile(Path(__file__).parents[1] / "specs" / f"{name}.yaml")
    split = net.data().test
    assert net.score(split).images == len(split) == sum(1 for _ in split)
