"""Test-time augmentation: the mean over views that are made and asked one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.cli.trained import open_run
from cnnspec.data import Dataset
from cnnspec.data.views import Views
from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.spec import loads
from cnnspec.train.views import mean_outputs, mean_score

HEAD = "cnnspec: 1\nname: net\ninput: [1, 8, 8]\nlayers: [{type: conv2d, filters: 4, kernel_size: 3}, tanh, flatten, "
BODY = "{{type: dense, units: {units}}}]\ndata: {{source: digits, tta: {{flip: true, shifts: 2}}}}\n"
TRAIN = "train: {{epochs: 1, loss: {loss}}}\n"


def model(units: int, loss: str) -> Model:
    spec = loads(HEAD + BODY.format(units=units) + TRAIN.format(loss=loss))
    return Model(spec, build(spec), threads=1, dtype="float64")


def moved(image: Array, down: int, across: int) -> Array:
    """Pixel by pixel: each is the one so far above and to the left, or the nearest that there is."""
    made = np.empty_like(image)
    for i in range(8):
        for j in range(8):
            made[:, i, j] = image[:, min(max(i - down, 0), 7), min(max(j - across, 0), 7)]
    return made


def every_view(image: Array, shift: int) -> Iterator[Array]:
    for mirrored in (image, image[:, :, ::-1]):
        for down, across in ((0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)):
            yield moved(mirrored, down, across)


IMAGES = np.random.default_rng(0).integers(0, 256, (150, 1, 8, 8)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 150)


def test_the_probabilities_are_the_mean_over_all_views() -> None:
    net, views = model(10, "softmax_cross_entropy"), Views(flip=True, shifts=2)
    assert str(views) == "10 views: flip, shifts by 2"
    expected = []
    for image in IMAGES:
        logits = net.outputs(np.stack(list(every_view(image, 2))))
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected.append((odds / odds.sum(axis=1, keepdims=True)).mean(axis=0))
    found = mean_outputs(net, IMAGES, views)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-10)
    score = mean_score(net, Dataset(IMAGES, LABELS), views)
    right = np.array(expected)[np.arange(150), LABELS]
    assert score.loss == pytest.approx(-np.log(right).mean(), rel=1e-10)
    assert score.accuracy == (np.argmax(expected, axis=1) == LABELS).mean()


def test_a_sigmoid_is_averaged_too() -> None:
    net = model(10, "binary_cross_entropy")
    expected = [1 / (1 + np.exp(-net.outputs(np.stack(list(every_view(image, 1)))))) for image in IMAGES[:5]]
    found = mean_outputs(net, IMAGES[:5], Views(flip=True, shifts=1))
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), [odds.mean(axis=0) for odds in expected], rtol=1e-10)


def test_one_view_is_the_score_itself() -> None:
    net = model(10, "{type: softmax_cross_entropy, label_smoothing: 0.1}")
    one, plain = mean_score(net, Dataset(IMAGES, LABELS), Views()), net.score(Dataset(IMAGES, LABELS))
    assert one.loss == pytest.approx(plain.loss, rel=1e-10)
    assert one.accuracy == plain.accuracy
    assert one.top_k == plain.top_k


def test_a_map_has_no_answer_to_average() -> None:
    spec = loads("cnnspec: 1\ninput: [1, 8, 8]\nlayers: [{type: conv2d, filters: 4, kernel_size: 3}]\n")
    with pytest.raises(RunError, match="averages one answer for each image"):
        mean_outputs(Model(spec, build(spec), threads=1), IMAGES, Views(flip=True))


def test_eval_and_predict_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(HEAD + BODY.format(units=10) + TRAIN.format(loss="softmax_cross_entropy"))
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path)]) == 0
    run = str(tmp_path / "net")
    capsys.readouterr()
    assert main(["eval", run]) == 0
    assert "360 images, 10 views: flip, shifts by 2, loss " in capsys.readouterr().out
    assert main(["eval", run, "--tta", "none", "--json"]) == 0
    assert "views" not in json.loads(capsys.readouterr().out)
    assert main(["eval", run, "--tta", "shifts=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["views"] == 5
    np.save(tmp_path / "x.npy", IMAGES[:3])
    assert main(["predict", run, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]) == 0
    assert "each answer is the mean of 10 views: flip, shifts by 2" in capsys.readouterr().err
    found = mean_outputs(open_run(Path(run), "last"), IMAGES[:3], Views(flip=True, shifts=2))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), found, rtol=1e-5)
    assert main(["eval", run, "--tta", "turn"]) == 2
    assert "expected flip, shifts=N, flip,shifts=N or none, got 'turn'" in capsys.readouterr().err
