"""Several targets by name: read from files, learned by a head each as PyTorch does, scored and predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import cnnspec
from cnnspec.check import checked
from cnnspec.cli import main
from cnnspec.data import open_data
from cnnspec.diagnostics import DataError, SpecError
from cnnspec.graph import build
from cnnspec.spec import Spec, load
from cnnspec.train.network import Network

COLORS = ("blue", "green", "red")
N = 60


def made() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "x": random.integers(0, 256, (N, 1, 4, 4), np.uint8),
        "color": np.array(COLORS)[np.arange(N) % 3],
        "size": random.random((N, 2)) * 100,
    }


def spec_of(folder: Path, source: Any, **changes: Any) -> Path:
    losses = {
        "color": {"layer": "colors", "weight": 0.5},
        "again": {"layer": "more", "target": "color", "training_only": True},
        "size": {"layer": "sizes", "loss": "mean_squared_error", "weight": 2},
    }
    spec = {
        "cnnspec": 1,
        "name": "net",
        "input": [1, 4, 4],
        "layers": [
            "flatten",
            {"id": "seen", "type": "dense", "units": 8, "activation": "tanh"},
            {"id": "colors", "type": "dense", "units": 3},
            {"id": "more", "type": "dense", "units": 3, "from": "seen"},
            {"id": "sizes", "type": "dense", "units": 2, "from": "seen"},
        ],
        "data": {"source": source, **changes.pop("data", {})},
        "train": {"epochs": 3, "batch_size": 48, "optimizer": {"type": "sgd", "learning_rate": 0.1}, "losses": losses},
    }
    path = folder / "net.yaml"
    path.write_text(yaml.safe_dump(spec | changes))
    return path


NAMED = {"color": "class", "size": "values"}
NPZ = {"type": "npz", "train": "all.npz", "target": NAMED}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    np.savez(tmp_path / "all.npz", allow_pickle=False, **made())
    return tmp_path


def opened(spec: Spec) -> Any:
    assert spec.data is not None
    return open_data(spec.data, seed=spec.seed, base=spec.base, input=spec.input)


def test_the_arrays_of_an_archive_become_targets(archive: Path) -> None:
    data = opened(load(spec_of(archive, NPZ)))
    colors, sizes = made()["color"], made()["size"]
    assert data.target.parts["color"].names == COLORS
    assert set(data.train.labels.shape[1:]) == {3}
    found = {tuple(row) for split in data.splits.values() for row in split.labels.tolist()}
    positions = [COLORS.index(color) for color in colors]
    assert found == {tuple(row) for row in np.column_stack([positions, sizes]).astype(np.float32).tolist()}
    np.testing.assert_allclose(data.target.parts["size"].mean, data.train.labels[:, 1:].mean(axis=0), rtol=1e-5)


def test_a_table_has_a_column_for_each(tmp_path: Path) -> None:
    given = made()
    rows = zip(given["color"], given["size"][:, 0], given["x"].reshape(N, -1), strict=True)
    lines = [f"{color},{size:.3f},{','.join(map(str, pixels))}" for color, size, pixels in rows]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    data = opened(load(spec_of(tmp_path, {"type": "csv", "shape": [1, 4, 4], "target": NAMED})))
    assert data.target.parts["color"].names == COLORS
    assert len(data.target.parts["size"].mean) == 1
    assert sorted(np.concatenate([s.labels[:, 0] for s in data.splits.values()]).tolist()) == sorted([0.0, 1, 2] * 20)


def test_three_steps_give_pytorchs_weights(archive: Path) -> None:
    torch = pytest.importorskip("torch")
    spec = load(spec_of(archive, NPZ))
    data = opened(spec)
    own = Network(spec, build(spec), dtype="float64", threads=2)
    own.adopt(data.target)
    random = np.random.default_rng(3)
    for array in own.params.values():
        array[...] = random.standard_normal(array.shape) / 3
    tensors = {name: torch.tensor(array.copy(), requires_grad=True) for name, array in own.params.items()}
    plan = own.plan(48, "train", "float64")
    labels = data.train.labels[:48].astype(np.float64)
    scaled = (labels[:, 1:] - data.target.parts["size"].mean) / data.target.parts["size"].deviation
    x, color = torch.tensor(random.random((48, 1, 4, 4))), torch.tensor(labels[:, 0].astype(np.int64))
    functional = torch.nn.functional
    optimizer = torch.optim.SGD(tensors.values(), lr=0.1)
    for _ in range(3):
        plan.images[...], plan.labels[...] = x.numpy(), own.target.scaled(labels)
        plan.step(0.1)

        def dense(name: str, given: Any) -> Any:
            return functional.linear(given, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

        optimizer.zero_grad()
        seen = torch.tanh(dense("seen", x.flatten(1)))
        loss = 0.5 * functional.cross_entropy(dense("colors", seen), color)
        loss = loss + functional.cross_entropy(dense("more", seen), color)
        loss = loss + 2 * functional.mse_loss(dense("sizes", seen), torch.tensor(scaled))
        loss.backward()
        optimizer.step()
        assert plan.losses.mean() == pytest.approx(loss.item(), rel=1e-6)  # labels are held in single precision
    for name, tensor in tensors.items():
        np.testing.assert_allclose(own.params[name], tensor.detach(), rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_run_scores_predicts_resumes_and_is_evaluated(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates = {"test.color.accuracy": ">= 0", "test.size.mae": "< 1e6"}
    path, out = spec_of(archive, NPZ, require=gates), archive / "runs"
    assert main(["train", str(path), "--quiet", "--out", str(out)]) == 0
    assert main(["train", str(path), "--quiet", "--out", str(out), "--max-steps", "2"]) == 0
    assert main(["train", "--quiet", "--resume", str(out / "net-2")]) == 0
    assert main(["verify", str(out / "net-2")]) == 0
    rows = [json.loads((out / run / "metrics.jsonl").read_text().splitlines()[-1]) for run in ("net", "net-2")]
    assert rows[0]["weights"] == rows[1]["weights"]
    capsys.readouterr()
    assert main(["eval", str(out / "net"), "--checkpoint", "last", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["color.accuracy"] == rows[0]["test.color.accuracy"]
    model = cnnspec.compile(out / "net" / "spec.yaml")
    model.load(out / "net" / "last.npz")
    test = opened(model.spec).test
    outputs = model.predict(test.pixels)
    error = outputs["size"] - test.labels[:, 1:]  # in the units of the data
    assert figures["size.mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert figures["color.accuracy"] == np.mean(outputs["color"].argmax(axis=1) == test.labels[:, 0])
    score = model.evaluate(test.pixels, {"color": test.labels[:, 0].astype(int), "size": test.labels[:, 1:]})
    assert score.parts["size"].mae == pytest.approx(figures["size.mae"], rel=1e-6)
    with pytest.raises(ValueError, match="expected y with labels by name, for color, size, got an array"):
        model.evaluate(test.pixels, test.labels)
    with pytest.raises(ValueError, match=r"size: expected labels of shape \(12, 2\), got \(12,\)"):
        model.evaluate(test.pixels, {"color": test.labels[:, 0], "size": test.labels[:, 0]})
    np.save(archive / "asked.npy", test.pixels[:2])
    assert main(["predict", str(out / "net"), str(archive / "asked.npy"), "--json"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["color"]["classes"][0]["class"] in COLORS
    assert list(line["size"]["values"]) == ["0", "1"]


def test_the_shipped_example_learns_both(tmp_path: Path) -> None:
    spec = Path(__file__).parents[2] / "specs" / "two-heads.yaml"
    assert main(
        [
            "train",
            str(spec),
            "--quiet",
            "--out",
            str(tmp_path),
            "--set",
            "train.epochs=8",
            "--set",
            "data.test.limit=50",
        ]
    ) in (0, 4)
    row = json.loads((tmp_path / "two-heads" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["test.pattern.accuracy"] > 0.9
    assert row["test.place.r2"] > 0.5


def test_what_does_not_fit_the_targets_is_told(archive: Path) -> None:
    path = spec_of(archive, NPZ)
    text = path.read_text()
    for wrong, message in (
        (text.replace("target: color", "target: colour"), "losses.again: the data have no target 'colour'"),
        (text.replace("    size:\n", "    length:\n"), "losses.length: the data have no target 'length'"),
        (text.replace("size: values", "size: values\n      shade: class"), "no loss learns the data's target 'shade'"),
        (text.replace("loss: mean_squared_error", "loss: dice"), "dice cannot learn numbers"),
    ):
        path.write_text(wrong)
        with pytest.raises(SpecError) as error:
            checked(load(path))
        assert message in str(error.value)
    path.write_text(text)
    one = spec_of(archive, NPZ, train={"epochs": 1})
    with pytest.raises(SpecError, match="cannot learn several targets") as caught:
        checked(load(one))
    assert "losses" in str(caught.value.diagnostics[0].help)
    mixed = spec_of(archive, NPZ, data={"augment": ["mixup"]})
    with pytest.raises(SpecError, match="mixup: it cannot mix labels of several targets"):
        checked(load(mixed))


def test_arrays_that_are_missing_are_named(archive: Path) -> None:
    given = made()
    np.savez(archive / "all.npz", allow_pickle=False, x=given["x"], color=given["color"])
    with pytest.raises(
        DataError, match="expected labels in an array size or size_train beside images in x, got x, color"
    ):
        opened(load(spec_of(archive, NPZ)))
    np.savez(archive / "all.npz", allow_pickle=False, **{**given, "size": given["size"][:9]})
    with pytest.raises(DataError, match="expected one label for each of the 60 images, got 9"):
        opened(load(spec_of(archive, NPZ)))
    np.savez(archive / "all.npz", allow_pickle=False, **given)
    wide = spec_of(archive, NPZ)
    wide.write_text(wide.read_text().replace("units: 2", "units: 3"))
    spec = load(wide)
    with pytest.raises(DataError, match=r"losses\.size: expected 2 outputs, one for each value of the data, got 3"):
        Network(spec, build(spec)).adopt(opened(spec).target)
