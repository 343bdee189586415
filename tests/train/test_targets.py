"""Targets beyond one class an image: what is learned, scored and said of each, against PyTorch and plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import cnnspec
from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import open_data
from cnnspec.diagnostics import DataError, SpecError
from cnnspec.fields import create

BODY = ["flatten", {"type": "dense", "units": 8, "activation": "tanh"}]


def spec_file(folder: Path, source: Any, units: int, loss: Any, **keys: Any) -> Path:
    """A small network on 8x8 images, with keys of `train` or of the whole spec."""
    train = {"epochs": 2, "batch_size": 8, "loss": loss, "optimizer": {"type": "sgd", "learning_rate": 0.05}}
    whole = {key: keys.pop(key) for key in ("layers", "require", "data", "input") if key in keys}
    spec = {
        "cnnspec": 1,
        "name": "net",
        "input": [1, 8, 8],
        "layers": [*BODY, {"type": "dense", "units": units}],
        "data": {"source": source},
        "train": train | keys,
    }
    path = folder / "net.yaml"
    path.write_text(yaml.safe_dump(spec | whole))
    return path


def fitted(path: Path) -> tuple[Model, Any]:
    model = cnnspec.compile(path)
    assert model.spec.data is not None
    data = open_data(model.spec.data, seed=0, input=model.spec.input, output=model.graph.output.shape)
    model.adopt(data.target)
    return model, data


def train(path: Path, *more: str) -> Path:
    out = path.parent / "runs"
    assert main(["train", str(path), "--quiet", "--out", str(out), *more]) == 0
    return max(out.iterdir(), key=lambda run: run.stat().st_mtime_ns)


TWO = {"type": "synthetic", "shape": [1, 8, 8], "classes": 2, "train": 40, "test": 20}


def test_one_output_serves_two_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    path = spec_file(tmp_path, TWO, 1, "binary_cross_entropy")
    model, data = fitted(path)
    output = model.predict(data.test.pixels)
    score = model.score(data.test)
    logits, labels = torch.tensor(output[:, 0]), torch.tensor(data.test.labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert score.loss == pytest.approx(float(expected), rel=1e-5)
    assert score.accuracy == pytest.approx(float(((logits > 0) == (labels == 1)).float().mean()))
    assert score.confusion is not None
    assert score.confusion.sum() == 20
    assert main(["validate", str(path)]) == 0
    assert main(["smoke", str(path)]) == 0
    assert main(["gradcheck", str(path)]) == 0
    run = train(path)
    assert main(["verify", str(run)]) == 0
    assert main(["eval", str(run), "--confusion"]) == 0
    assert "wrong" not in capsys.readouterr().out


@pytest.mark.parametrize(("classes", "loss"), [(3, "binary_cross_entropy"), (2, "softmax_cross_entropy")])
def test_one_output_serves_no_others(tmp_path: Path, classes: int, loss: str) -> None:
    with pytest.raises(SpecError, match=f"expected {classes} outputs, one for each class"):
        cnnspec.compile(spec_file(tmp_path, {**TWO, "classes": classes}, 1, loss))


def test_the_advice_on_one_output_is_what_validate_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"type": "npz", "train": "x.npz"}
    assert main(["validate", str(spec_file(tmp_path, unknown, 1, "softmax_cross_entropy"))]) == 0
    assert "for two classes, binary_cross_entropy" in capsys.readouterr().out
    assert main(["validate", str(spec_file(tmp_path, unknown, 1, "binary_cross_entropy"))]) == 0
    assert "warning" not in capsys.readouterr().out


def test_two_classes_that_only_files_tell_train_one_output(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "train.npz", x=pixels, y=labels)
    train(spec_file(tmp_path, "npz", 1, "binary_cross_entropy", data={"source": "npz", "root": str(tmp_path)}))
    np.savez(tmp_path / "train.npz", x=pixels, y=np.arange(40) % 3)
    with pytest.raises(DataError, match="expected at most 1"):
        fitted(tmp_path / "net.yaml")


def weighted(weights: Any) -> dict[str, Any]:
    return {"type": "softmax_cross_entropy", "class_weights": weights}


@pytest.mark.parametrize("weights", ["balanced", {"2": 5, "0": 0}, {1: 2.5}, [1, 2, 3, 4]])
def test_class_weights_count_as_in_pytorch(tmp_path: Path, weights: Any) -> None:
    """Three classes are there, and the network has an output more."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    np.savez(tmp_path / "train.npz", x=random.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=labels)
    data = {"source": "npz", "root": str(tmp_path)}
    model, found = fitted(spec_file(tmp_path, "npz", 4, weighted(weights), data=data))
    counts = np.bincount(found.train.labels)
    assert counts.tolist() == [24, 16, 8]
    expected = {
        str(["balanced"]): [*(48 / (3 * counts)), 1],
        str([{"2": 5, "0": 0}]): [0, 1, 5, 1],
        str([{1: 2.5}]): [1, 2.5, 1, 1],
    }.get(str([weights]), weights)
    logits, truth = torch.tensor(model.predict(found.test.pixels)), torch.tensor(found.test.labels)
    each = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
    mean = float((each * torch.tensor(np.array(expected, np.float32))[truth]).mean())
    assert model.score(found.test).loss == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([-1, *[1] * 9], "class_weights[0]: expected a number at least 0, got -1"),
        ([0] * 10, "expected balanced or a list of values, each a number at least 0"),
        ({"0": -1}, "class_weights.0: expected a number at least 0, got -1"),
        ("balancd", "expected balanced or a list of values, each a number at least 0"),
        ({"ten": 3}, "'ten' is no class of the data"),
    ],
)
def test_class_weights_that_make_no_sense(tmp_path: Path, weights: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        cnnspec.compile(spec_file(tmp_path, "digits", 10, weighted(weights)))
    assert said in str(caught.value.diagnostics[0].message)


def test_weights_are_said_kept_and_the_same_in_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec_file(tmp_path, "digits", 10, weighted("balanced"), epochs=1)
    assert main(["train", str(path), "--out", str(tmp_path / "runs")]) == 0
    assert "class weights, 1 but for: 0 " in capsys.readouterr().err
    run = tmp_path / "runs" / "net"
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == row["test.loss"]


OWN = {"optimizer": {"type": "adam", "learning_rate": 0.01}}


def write_values(folder: Path, count: int = 60, width: int = 1, *, scale: float = 100.0) -> tuple[Any, Any]:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    values = np.stack([scale * (k + 1) * pixels[:, k].mean(axis=1) / 255 + 1000 for k in range(width)], axis=1)
    np.savez(folder / "train.npz", x=pixels, y=values[:, 0] if width == 1 else values)
    return pixels, values


@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error", "huber"])
@pytest.mark.parametrize("width", [1, 2])
def test_values_are_scaled_for_the_loss_and_told_in_their_own_units(tmp_path: Path, loss: str, width: int) -> None:
    torch = pytest.importorskip("torch")
    write_values(tmp_path, width=width)
    data = {"source": "npz", "root": str(tmp_path)}
    model, found = fitted(spec_file(tmp_path, "npz", width, loss, data=data))
    truth = found.train.labels.astype(np.float64)
    assert model.target.mean == pytest.approx(truth.mean(axis=0))
    assert model.target.deviation == pytest.approx(truth.std(axis=0))
    said, score = model.predict(found.test.pixels), model.score(found.test)
    expected = found.test.labels.astype(np.float64)
    assert score.mae == pytest.approx(np.abs(said - expected).mean(), rel=1e-4)
    assert score.rmse == pytest.approx(np.sqrt(((said - expected) ** 2).mean()), rel=1e-4)
    compared = {"mean_squared_error": "mse_loss", "mean_absolute_error": "l1_loss", "huber": "huber_loss"}[loss]
    scaled = [torch.tensor((array - truth.mean(0)) / truth.std(0)) for array in (said, expected)]
    assert score.loss == pytest.approx(float(getattr(torch.nn.functional, compared)(*scaled)), rel=1e-3)


def test_values_are_learned_and_kept_by_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also as Model.save keeps them, by resuming and by verifying; whatever the number of workers."""
    pixels, values = write_values(tmp_path, 300)
    data = {"source": "npz", "root": str(tmp_path), "validation": {"fraction": 0.2}}
    layers = ["flatten", {"type": "dense", "units": 1}]
    path = spec_file(tmp_path, "npz", 1, "mean_squared_error", data=data, layers=layers, epochs=20, **OWN)
    run = train(path)
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["test.mae"] < 5
    assert row["test.r2"] > 0.5
    assert row["train.accuracy"] is None
    capsys.readouterr()
    np.save(tmp_path / "some.npy", pixels[:2])
    assert main(["predict", str(run), str(tmp_path / "some.npy"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["values"]["value"] for line in lines] == pytest.approx(values[:2, 0].tolist(), abs=30)
    assert main(["verify", str(run), "--all"]) == 0
    other = train(path, "--max-steps", "33", "--threads", "1")
    assert main(["train", "--resume", str(other), "--quiet", "--threads", "2"]) == 0
    weights = [(one / "metrics.jsonl").read_text().splitlines()[-1] for one in (run, other)]
    assert len({json.loads(line)["weights"] for line in weights}) == 1
    model = cnnspec.compile(path)
    model.fit()
    model.save(tmp_path / "kept.npz")
    again = cnnspec.compile(path)
    again.load(tmp_path / "kept.npz")
    np.testing.assert_array_equal(again.predict(pixels[:3, None]), model.predict(pixels[:3, None]))


def test_a_table_with_several_values_in_a_line(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    values, pixels = random.standard_normal((20, 2)), random.integers(0, 256, (20, 64))
    lines = [
        ",".join([*(f"{v:.6f}" for v in row), *map(str, p)]) for row, p in zip(values, pixels.tolist(), strict=True)
    ]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    source = {"type": "csv", "shape": [1, 8, 8], "target": "values", "labels": 2, "held_out": 0.2}
    model, found = fitted(spec_file(tmp_path, source, 2, "huber", data={"source": source, "root": str(tmp_path)}))
    assert len(found.train) == 16
    both = np.concatenate([found.train.labels, found.test.labels])
    np.testing.assert_allclose(np.sort(both, axis=0), np.sort(values, axis=0), atol=1e-6)
    assert model.target.names == ("0", "1")


@pytest.mark.parametrize(
    ("target", "labels", "said"),
    [
        ("values", [[1.0, np.nan]] * 4, "expected finite numbers, got nan in row 0, column 1"),
        ("classes", [[0, 1], [0, 2], [1, 1], [0, 0]], "expected 0 or 1 for each class, got 2 in row 1, column 1"),
        (
            "shares",
            [[0.5, 0.5], [0.5, 0.4], [1, 0], [0, 1]],
            "expected probabilities with a sum of 1, got 0.9 in row 1",
        ),
        ("mask", [[0, 1]] * 4, "expected maps (n, h, w)"),
        ("classes", np.zeros((4, 8, 8)), "expected labels (n, k)"),
        ("mask", np.zeros((4, 4, 8)), "expected maps of 8x8, which is the images' size, got 4x8"),
    ],
)
def test_labels_that_are_not_what_the_target_says(tmp_path: Path, target: str, labels: Any, said: str) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((4, 8, 8), np.uint8), y=np.array(labels))
    source = {"type": "npz", "target": target, "held_out": 0.25}
    path = spec_file(tmp_path, source, 2, "mean_squared_error", data={"source": source, "root": str(tmp_path)})
    settings = cnnspec.load_spec(path).data
    assert settings is not None
    with pytest.raises(DataError) as caught:
        open_data(settings, seed=0)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "units", "loss", "require", "said"),
    [
        ({"target": "values"}, 3, "softmax_cross_entropy", {}, "softmax_cross_entropy cannot learn numbers"),
        ({"target": "values"}, 2, "huber", {}, "expected 3 outputs, one for each value of the data, got 2"),
        ({"target": "classes"}, 10, "softmax_cross_entropy", {}, "cannot learn any number of classes an image"),
        ({"target": "values"}, 3, "huber", {"test.accuracy": ">= 0.5"}, "expected a figure of the target"),
        ({}, 10, "softmax_cross_entropy", {"test.mae": "< 1"}, "expected a figure of the target"),
        ({"target": "mask"}, 10, "softmax_cross_entropy", {}, "expects scores for every pixel"),
    ],
)
def test_validate_says_what_does_not_fit_the_target(
    tmp_path: Path, source: Any, units: int, loss: str, require: Any, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        cnnspec.compile(
            spec_file(tmp_path, {"type": "synthetic", "shape": [1, 8, 8], **source}, units, loss, require=require)
        )
    assert said in str(caught.value.diagnostics[0].message)
    assert caught.value.diagnostics[0].help


def test_train_says_what_only_the_data_can_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_values(tmp_path)
    data = {"source": "npz", "root": str(tmp_path)}
    out = ["--out", str(tmp_path / "runs")]
    path = spec_file(tmp_path, "npz", 1, "binary_cross_entropy", data=data)
    assert main(["train", str(path), *out]) == 4
    assert "binary_cross_entropy cannot learn numbers" in capsys.readouterr().err
    path = spec_file(tmp_path, "npz", 1, "huber", data=data, require={"test.accuracy": ">= 0.5"})
    assert main(["train", str(path), *out]) == 4
    assert "name one of loss, mae, rmse, r2" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


PIXELS = [{"type": "conv2d", "filters": 16, "kernel_size": 3, "padding": "half"}, "relu"]


@pytest.mark.parametrize(
    ("source", "layers", "loss", "augment"),
    [
        (
            {"target": "classes", "classes": 4},
            [*BODY, {"type": "dense", "units": 4}],
            "binary_cross_entropy",
            ["mixup"],
        ),
        (
            {"target": "shares", "classes": 4},
            [*BODY, {"type": "dense", "units": 4}],
            "softmax_cross_entropy",
            ["cutmix"],
        ),
        ({"target": "values"}, [*BODY, {"type": "dense", "units": 3}], "huber", ["mixup"]),
        (
            {"target": "mask", "classes": 3},
            [*PIXELS, {"type": "conv2d", "filters": 3, "kernel_size": 1}],
            "dice",
            ["flip", "rotate", {"type": "shift", "pixels": 1}, "cutout"],
        ),
        (
            {"target": "mask", "classes": 2},
            [*PIXELS, {"type": "conv2d", "filters": 1, "kernel_size": 1}],
            "binary_cross_entropy",
            [{"type": "crop", "padding": 2}],
        ),
    ],
)
def test_every_target_trains_resumes_and_is_verified_to_the_bit(
    tmp_path: Path, source: Any, layers: Any, loss: str, augment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic = {"type": "synthetic", "shape": [1, 8, 8], "train": 70, "test": 20, **source}
    data = {"source": synthetic, "augment": augment, "validation": {"fraction": 0.2}}
    path = spec_file(tmp_path, synthetic, 1, loss, data=data, layers=layers, batch_size=40, **OWN)
    assert main(["smoke", str(path)]) == 0
    assert main(["gradcheck", str(path)]) == 0
    assert "wrong" not in capsys.readouterr().out
    whole, part = train(path, "--threads", "2"), train(path, "--max-steps", "1", "--threads", "1")
    assert main(["train", "--resume", str(part), "--quiet", "--threads", "1"]) == 0
    rows = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in (whole, part)]
    timed = {"seconds", "images_per_second"}
    assert {k: v for k, v in rows[0].items() if k not in timed} == {k: v for k, v in rows[1].items() if k not in timed}
    assert main(["verify", str(whole), "--all"]) == 0
    capsys.readouterr()
    assert main(["eval", str(whole), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == rows[0]["test.loss"]


def test_pixels_of_no_class_count_in_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive whose masks have 9 where nothing is known: figures are those of the other pixels."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        pixels = random.integers(0, 256, (count, 8, 8), np.uint8)
        masks = (pixels > 128).astype(np.uint8)
        masks[:, :3] = 9
        masks[0] = 9
        np.savez(tmp_path / f"{split}.npz", x=pixels, y=masks)
    source = {"type": "npz", "target": "mask", "ignore": 9, "classes": 2}
    layers = [*PIXELS, {"type": "conv2d", "filters": 2, "kernel_size": 1}]
    loss = {"type": "softmax_cross_entropy", "class_weights": "balanced"}
    path = spec_file(tmp_path, source, 1, loss, data={"source": source}, layers=layers)
    run = train(path)
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = cnnspec.compile(path)
    model.load(run / "last.npz")
    assert model.spec.data is not None
    data = open_data(model.spec.data, seed=0, base=tmp_path)
    pixels = np.asarray(data.test.pixels)
    predicted = model.predict(pixels).argmax(axis=1)
    counted = np.asarray(data.test.labels) != 255
    assert counted.sum() == 19 * 8 * 5
    assert found["accuracy"] == pytest.approx((predicted == data.test.labels)[counted].mean())
    assert data.target.counts == tuple(np.bincount(data.train.labels[data.train.labels != 255]).tolist())
    score = model.evaluate(pixels, data.test.labels)
    assert score.loss == pytest.approx(found["loss"])
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert main(["verify", str(run)]) == 0


def test_only_masks_have_pixels_of_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((20, 8, 8), np.uint8), y=np.arange(20) / 7)
    path = spec_file(tmp_path, {"type": "npz", "ignore": 9}, 1, "mean_squared_error")
    assert main(["train", str(path)]) == 4
    assert "data.source.ignore: is of masks, the target is numbers" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["flip", "crop", "shift", "rotate", "scale", "elastic", "cutout", "brightness"])
def test_a_mask_moves_with_its_image(kind: str) -> None:
    """An image that shows its own mask still shows it, but where bilinear reading mixes two classes."""
    random = np.random.default_rng(5)
    maps = np.repeat(np.repeat(random.integers(0, 2, (6, 4, 4)), 5, axis=1), 5, axis=2).astype(np.uint8)
    pixels = 255 * maps[:, None]
    augmentation = create("augmentation", kind)
    before = maps.copy()
    augmentation.apply(pixels, np.random.default_rng(7))
    augmentation.move_maps(maps, np.random.default_rng(7))
    if kind in ("cutout", "brightness"):
        np.testing.assert_array_equal(maps, before)
        return
    sure = (pixels[:, 0] < 100) | (pixels[:, 0] > 155)
    assert sure.mean() > 0.8
    assert ((pixels[:, 0] > 127) == (maps == 1))[sure].mean() > 0.998  # places are rounded to a 16th of a pixel
    assert not np.array_equal(maps, before)


def test_masks_are_not_mixed(tmp_path: Path) -> None:
    source = {"type": "synthetic", "shape": [1, 8, 8], "target": "mask", "classes": 2}
    layers = [{"type": "conv2d", "filters": 2, "kernel_size": 1}]
    path = spec_file(tmp_path, source, 1, "dice", layers=layers, data={"source": source, "augment": ["mixup"]})
    with pytest.raises(SpecError) as caught:
        cnnspec.compile(path)
    assert "it does not say how a mask moves" in caught.value.diagnostics[0].message
