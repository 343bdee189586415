"""Several inputs: numbers against a PyTorch module with two arguments, files, arrays, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import main
from cnnspec.data import Inputs
from cnnspec.diagnostics import DataError, SpecError
from cnnspec.graph.render import render
from cnnspec.spec.load import loads
from cnnspec.train.network import Network

SPEC = """\
cnnspec: 1
name: two
inputs: {image: [2, 6, 5], age: [3]}
layers:
  - {id: conv, type: conv2d, filters: 4, kernel_size: 3, activation: tanh}
  - {id: seen, type: flatten}
  - {id: known, type: dense, units: 7, activation: tanh, from: age}
  - {type: concat, from: [seen, known, age]}
  - {id: out, type: dense, units: 4}
data: {source: npz, validation: {fraction: 0.1}}
train: {epochs: 3, batch_size: 16, optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9}}
"""
STEPS = 3
Arrays = dict[str, Any]


def made(n: int, seed: int = 0) -> tuple[Arrays, Any]:
    """Bytes, numbers, and classes that follow from both together."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    image = random.integers(0, 60, (n, 2, 6, 5), np.uint8)
    image[labels % 2 == 1, :, 2:4] += 180
    age = random.normal(size=(n, 3))
    age[:, 1] += 3.0 * (labels // 2)
    return {"image": image, "age": age}, labels


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, (split, n) in enumerate({"train": 200, "test": 50}.items()):
        inputs, labels = made(n, seed)
        np.savez(tmp_path / f"{split}.npz", **inputs, y=labels)
    (tmp_path / "two.yaml").write_text(SPEC)
    return tmp_path


@pytest.mark.parametrize("n", [5, 70])  # one shard, and two
def test_losses_and_weights_are_pytorchs(n: int) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    spec = loads(SPEC)
    own = Network(spec, cnnspec.graph.build(spec), threads=1, dtype="float64")
    random = np.random.default_rng(7)
    for array in own.params.values():
        array[...] = random.standard_normal(array.shape) / 3
    tensors = {name: torch.tensor(array.copy(), requires_grad=True) for name, array in own.params.items()}

    def module(image: Any, age: Any) -> Any:
        seen = torch.tanh(functional.conv2d(image, tensors["conv.weight"], tensors["conv.bias"])).flatten(1)
        known = torch.tanh(functional.linear(age, tensors["known.weight"], tensors["known.bias"]))
        return functional.linear(torch.cat([seen, known, age], 1), tensors["out.weight"], tensors["out.bias"])

    optimizer = torch.optim.SGD(tensors.values(), lr=0.1, momentum=0.9)
    plan = own.plan(n, "train", "float64")
    for step in range(STEPS):
        inputs, labels = made(n, step)
        assert own.pipeline is not None
        joined = own.pipeline.images(inputs)
        assert joined.shape == (n, 63)
        plan.images[...], plan.labels[...] = joined, labels
        plan.step(0.1)
        optimizer.zero_grad()
        image = torch.tensor((inputs["image"].astype(np.float32) / 255).astype(np.float64))
        age = torch.tensor(inputs["age"].astype(np.float32).astype(np.float64))
        loss = functional.cross_entropy(module(image, age), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        assert float(plan.losses.mean()) == pytest.approx(loss.item(), rel=1e-11)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(own.params[name], tensor.detach(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_bits_do_not_depend_on_the_workers() -> None:
    found = []
    for threads in (1, 2):
        model = cnnspec.compile(SPEC, threads=threads)
        model.fit(*made(150), epochs=1, progress=False)
        found.append(model.fingerprint())
    assert found[0] == found[1]


def test_a_run_is_trained_resumed_verified_evaluated_and_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "two.yaml", "--quiet"]) == 0
    assert main(["train", "two.yaml", "--quiet", "--out", "cut", "--max-steps", "17"]) == 0
    assert main(["train", "--resume", "cut/two", "--quiet"]) == 0
    assert cnnspec.load("cut/two").fingerprint() == cnnspec.load("runs/two").fingerprint()
    assert main(["verify", "runs/two"]) == 0
    capsys.readouterr()
    assert main(["eval", "runs/two", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    inputs, labels = made(50, 1)
    model = cnnspec.load("runs/two")
    assert model.evaluate(inputs, labels).accuracy == pytest.approx(scored["accuracy"])
    assert scored["accuracy"] > 0.8
    assert main(["predict", "runs/two", "test.npz", "-o", "found.npy"]) == 0
    np.testing.assert_array_equal(np.load("found.npy"), model.predict(inputs))


def test_one_archive_may_hold_all_splits_and_several_targets(folder: Path) -> None:
    arrays: Arrays = {}
    for split, n in (("train", 60), ("test", 20), ("val", 10)):
        inputs, labels = made(n)
        arrays |= {f"{name}_{split}": array for name, array in inputs.items()}
        arrays |= {f"kind_{split}": labels, f"size_{split}": inputs["age"][:, 0]}
    np.savez(folder / "all.npz", **arrays)
    (folder / "all.yaml").write_text(
        SPEC.replace("source: npz, validation: {fraction: 0.1}", "source: {type: npz, train: all.npz, target: T}")
        .replace("target: T", "target: {kind: class, size: values}")
        .replace(
            "id: out, type: dense, units: 4}", "id: kind, type: dense, units: 4}\n  - {id: size, type: dense, units: 1}"
        )
        .replace("epochs: 3,", "epochs: 2, losses: {kind: {}, size: {loss: mean_squared_error}},")
    )
    model = cnnspec.compile("all.yaml")
    row = model.fit(progress=False)[-1]
    assert row["validation.loss"] is not None
    assert {"test.kind.accuracy", "test.size.r2"} <= row.keys()
    assert {name: found.shape for name, found in model.predict(made(7)[0]).items()} == {"kind": (7, 4), "size": (7, 1)}


def test_arrays_are_fitted_kept_and_asked_in_python(tmp_path: Path) -> None:
    inputs, labels = made(200)
    model = cnnspec.compile(SPEC)
    rows = model.fit(inputs, labels, validation=made(40, 1), epochs=6, progress=False)
    assert rows[-1]["validation.accuracy"] > 0.8
    found = model.predict(inputs)
    assert found.shape == (200, 4)
    model.save(tmp_path / "kept.npz")
    for other in (cnnspec.load(tmp_path / "kept.npz"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(inputs), found)
    np.testing.assert_allclose(model.activations(inputs, "image"), inputs["image"] / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(model.activations(inputs, "age"), inputs["age"].astype(np.float32))
    as_numbers = {**inputs, "image": inputs["image"].astype(float)}
    np.testing.assert_array_equal(model.predict(as_numbers), found)  # pixels 0 to 255 of any type, as they were bytes


def test_without_a_data_section_numbers_enter_as_they_are() -> None:
    inputs, labels = made(20)
    model = cnnspec.compile(SPEC, ["data=null"])
    model.fit(inputs, labels, epochs=1, progress=False)
    np.testing.assert_array_equal(model.activations(inputs, "image"), inputs["image"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["image"], r"inputs: expected arrays by name, image \(n, 2, 6, 5\), age \(n, 3\), got ndarray"),
        (lambda x: {"age": x["age"]}, r"inputs: expected arrays image \(n, 2, 6, 5\), age \(n, 3\), got age"),
        (lambda x: {**x, "more": x["age"]}, "inputs: the network has no input 'more', its inputs are image"),
        (lambda x: {**x, "age": x["age"][:4]}, "expected as many images in each array, got 9 in image, 4 in age"),
        (lambda x: {**x, "age": x["age"][:, :2]}, r"inputs: age: expected \(n, 3\), got \(9, 2\)"),
        (lambda x: {**x, "age": x["age"].astype(str)}, "inputs: age: expected numbers, got <U"),
        (lambda x: {**x, "age": x["age"] / 0}, "inputs: expected finite numbers, got some that are infinite"),
        (lambda x: {**x, "image": x["image"] / 255}, "inputs: image: expected pixels from 0 to 255, got float64"),
        (lambda x: {name: array[:0] for name, array in x.items()}, "expected arrays of at least one row, got none"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_arrays_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    inputs, labels = made(9)
    model = cnnspec.compile(SPEC)
    model.fit(inputs, labels, epochs=1, progress=False)
    with pytest.raises(ValueError, match=message):
        model.predict(change(inputs))


def test_bytes_are_refused_where_training_had_numbers_and_a_mapping_where_there_is_one_input() -> None:
    inputs, labels = made(9)
    model = cnnspec.compile(SPEC)
    model.fit({**inputs, "image": inputs["image"] / 255}, labels, epochs=1, progress=False)
    with pytest.raises(ValueError, match="image: expected numbers as in training, which were no bytes, got uint8"):
        model.predict(inputs)
    one = cnnspec.compile(
        SPEC.replace("inputs: {image: [2, 6, 5], age: [3]}", "input: [3]").split("  - {id: conv")[0]
        + ("  - {type: dense, units: 4}\n")
    )
    with pytest.raises(ValueError, match="expected an array of images, got a mapping: the network has one input"):
        one.predict({"age": inputs["age"]})


def test_archives_and_paths_that_do_not_fit_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "two.yaml", "--quiet"]) == 0
    assert main(["predict", "runs/two", "two.yaml"]) == 4
    assert "two.yaml: the network has several inputs, image (n, 2, 6, 5), age (n, 3)" in capsys.readouterr().err
    np.savez(folder / "half.npz", image=made(3)[0]["image"])
    assert main(["predict", "runs/two", "half.npz"]) == 4
    assert "expected arrays image (n, 2, 6, 5), age (n, 3), got image" in capsys.readouterr().err
    assert main(["serve", "runs/two", "--port", "0"]) == 4
    assert "the network has several inputs, image, age, and a page shows one image" in capsys.readouterr().err
    np.savez(folder / "train.npz", image=made(3)[0]["image"], y=np.zeros(3, int))
    with pytest.raises(DataError, match=r"train\.npz: expected arrays image, age, y, or these names with _train"):
        cnnspec.compile("two.yaml").fit(progress=False)


def test_a_rendered_spec_means_the_same() -> None:
    spec = loads(SPEC)
    graph = cnnspec.graph.build(spec)
    text = render(spec, graph)
    again = loads(text)
    assert (again.inputs, again.input) == ({"image": (2, 6, 5), "age": (3,)}, (63,))
    assert render(again, cnnspec.graph.build(again)) == text
    assert "inputs:" in render(spec, graph, origins=True)


def test_the_first_layer_and_the_word_input_read_the_first_input() -> None:
    text = SPEC.replace("from: [seen, known, age]", "from: [seen, known]")
    named = cnnspec.compile(text.replace("kernel_size: 3,", "kernel_size: 3, from: image,"))
    reserved = cnnspec.compile(text.replace("kernel_size: 3,", "kernel_size: 3, from: input,"))
    assert cnnspec.compile(text).graph.nodes[2].inputs == ("image",)
    assert named.graph.nodes[2].inputs == reserved.graph.nodes[2].inputs == ("image",)


def test_each_synthetic_input_tells_only_a_part() -> None:
    """The spec that ships meets its gate; read of one input alone, the other says nothing, and it cannot."""
    text = (Path(__file__).parents[2] / "specs" / "two-inputs.yaml").read_text()
    both = cnnspec.compile(text)
    assert both.graph.parameter_count == 80 + 288 * 16 + 16 + 3 * 16 + 16 + 32 * 9 + 9
    assert both.fit(progress=False)[-1]["test.accuracy"] >= 0.95
    data = Inputs({"picture": (1, 12, 12), "measured": (3,)})
    assert both.spec.data is not None
    found = both.spec.data.source.read_inputs(data, None)
    pixels, labels = found.splits["train"].pixels, found.splits["train"].labels
    for start, stop, told in ((0, 144, labels % 3), (144, 147, labels // 3)):
        means = np.stack([pixels[labels == label, start:stop].mean(axis=0) for label in range(9)])
        groups = {label: told[labels == label][0] for label in range(9)}
        for a in range(9):
            for b in range(a):
                assert (np.abs(means[a] - means[b]).max() > 0.1) == (groups[a] != groups[b]), (a, b)


@pytest.mark.parametrize("verb", ["smoke", "gradcheck", "summary", "graph"])
def test_verbs_on_specs(verb: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "two.yaml"]) == 0
    assert "age" in capsys.readouterr().out or verb == "smoke"


def test_a_spec_that_leaves_an_input_out_is_refused() -> None:
    with pytest.raises(SpecError, match="inputs: the output does not depend on 'age'"):
        cnnspec.compile(SPEC.replace("from: age", "from: seen").replace("known, age", "known"))
