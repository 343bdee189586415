"""`smoke` passes what learns and names what is wrong with what does not; `gradcheck` finds a wrong derivative."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.graph import build
from cnnspec.kernels.step import Step
from cnnspec.layers.activation import Relu, Tanh
from cnnspec.layers.base import Operands
from cnnspec.spec import load, loads
from cnnspec.train.gradcheck import STEP, WHOLE, _error, gradcheck
from tests.samples import slow

ROOT = Path(__file__).parents[2]
TRAINED = [path for path in sorted((ROOT / "specs").glob("*.yaml")) if "\ntrain:" in path.read_text()]
# What takes more than some seconds is left to the slow tests.
QUICK = ("lenet", "two-heads", "two-inputs", "vae-digits")
SMALL = [path if path.stem in QUICK else slow(path) for path in TRAINED]
# What one step of takes many seconds, or more memory than there may be, is left to a person.
HUGE = {"vgg16", "mlp-mixer-b16", "unet"}
KNOWN = [*sorted((ROOT / "specs").glob("*.yaml")), *sorted((ROOT / "tests/graph/architectures").glob("*.yaml"))]
UNTRAINED = [path for path in KNOWN if path not in TRAINED and path.stem not in HUGE]
SPEC = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {id: first, type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - {id: second, type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - flatten
  - {id: last, type: dense, units: 5}
train: {epochs: 1, optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9}}
"""


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_specs_pass_both(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", str(path)]) == 0
    assert main(["smoke", str(path)]) == 0
    out = capsys.readouterr().out
    assert WHOLE in out
    assert "wrong" not in out
    assert out.count("ok  ") >= 3


def test_gradcheck_asks_at_the_batch_size_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivative that is wrong for many images at once is right for two."""

    def wrong_for_many(layer: Tanh, o: Operands) -> Step:
        assert o.dx is not None
        return partial(o.dx.fill, 1.0) if o.dx.shape[-1] >= 16 else derivative(layer, o)

    derivative = Tanh.derivative
    monkeypatch.setattr(Tanh, "derivative", wrong_for_many)
    spec = loads(SPEC.replace("relu", "tanh"))
    errors = {check.layer: check.error for check in gradcheck(spec, build(spec))}
    assert errors.pop(WHOLE) > 0.01
    assert max(errors.values()) < 1e-5
    assert all(check.error < 1e-5 for check in gradcheck(spec, build(spec), images=2))


def spec_with(tmp_path: Path, old: str, new: str) -> str:
    path = tmp_path / "net.yaml"
    assert old in SPEC
    path.write_text(SPEC.replace(old, new))
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - relu\n", "  - {type: leaky_relu, negative_slope: 0}\n  - relu6\n", ""),
        ("id: first,", "id: first, trainable: false,", ""),
        ("id: last,", "id: last, weight_init: {type: normal, std: 9},", "first loss in 'last': "),
        ("id: second,", "id: second, weight_init: {type: normal, std: 1e+30},", "first loss in 'second': "),
        ("id: first,", "id: first, weight_init: zeros,", "gradients in 'first': first.weight is all zeros"),
        ("id: second,", "id: second, weight_init: zeros,", "gradients in 'second': first.weight is all zeros"),
        ("id: last,", "id: last, weight_init: zeros,", ""),  # gradients pass from the second step on
        ("units: 5}\n", "units: 5}\n  - softmax\n", "one batch learned in "),
        ("id: last,", "id: last, trainable: false,", ""),
        ("id: second,", "id: second, bias_init: {type: constant, value: -99},", "gradients in 'relu_2': first.weight"),
        (
            "  - {id: second,",
            "  - {id: lost, type: conv2d, filters: 2, kernel_size: 1}\n  - {id: second, from: relu_1,",
            "gradients in 'lost': lost.weight is all zeros",
        ),
        ("{id: ", "{trainable: false, id: ", "gradients: no parameter is trained"),
        ("learning_rate: 0.1", "learning_rate: 1e+30", "one batch learned in 'first'"),
        ("train: {", "train: {loss: {type: softmax_cross_entropy, label_smoothing: 0.3}, ", ""),
        ("learning_rate: 0.1", "learning_rate: 1000", "one batch learned in 'second'"),
        ("  - flatten\n", "  - {id: b, type: dropout, rate: 0.999}\n  - flatten\n", " in 'b': "),
    ],
)
def test_what_fails_is_named(tmp_path: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["smoke", spec_with(tmp_path, old, new), "--images", "8", "--seconds", "100"])
    error = capsys.readouterr().err
    assert status == (4 if said else 0), error
    assert said in error
    assert not said or "help: " in error


SGD = "optimizer: {type: sgd, learning_rate: 0.01, momentum: 0.9}"
# networks that learn, with what looks like a fault: few units, large first scores, weights that start at zero
RIGHT = {
    "mlp": """
input: [10]
layers: [{type: dense, units: 16, activation: relu}, {type: dense, units: 3}]
train: {epochs: 1, batch_size: 8, optimizer: {type: sgd, learning_rate: 0.01}}
""",
    "maxout": f"""
input: [1, 12, 12]
blocks:
  piece: {{params: {{filters: required}}, layers: [{{type: conv2d, filters: $filters, kernel_size: 3, padding: same}}]}}
  maxout:
    params: {{filters: required}}
    layers:
      - type: parallel
        merge: maximum
        branches: [[{{use: piece, with: {{filters: $filters}}}}], [{{use: piece, with: {{filters: $filters}}}}]]
layers:
  - {{use: maxout, with: {{filters: 12}}}}
  - {{use: maxout, with: {{filters: 24}}}}
  - flatten
  - {{type: dropout, rate: 0.5}}
  - {{type: dense, units: 10}}
train: {{epochs: 1, batch_size: 16, {SGD}}}
""",
    "film": f"""
input: [3, 8, 8]
layers:
  - {{id: stem, type: conv2d, filters: 8, kernel_size: 3, padding: same, activation: relu}}
  - global_avg_pool2d
  - {{id: condition, type: dense, units: 8, activation: relu}}
  - {{id: scale, type: dense, units: 8, weight_init: zeros, bias_init: ones}}
  - {{id: shift, type: dense, units: 8, weight_init: zeros, from: condition}}
  - {{type: batch_norm, from: stem}}
  - {{type: multiply, from: [batch_norm_1, scale]}}
  - {{type: add, broadcast: true, from: [multiply_1, shift]}}
  - flatten
  - {{type: dense, units: 5}}
train: {{epochs: 1, batch_size: 16, {SGD}}}
""",
    "autoencoder": f"""
input: [1, 8, 8]
layers:
  - {{type: conv2d, filters: 8, kernel_size: 3, padding: 1, stride: 2, activation: relu}}
  - {{type: conv2d, filters: 4, kernel_size: 3, padding: 1, stride: 2, activation: relu}}
  - {{type: upsample2d, scale: 4}}
  - {{type: conv2d, filters: 1, kernel_size: 3, padding: 1}}
train: {{epochs: 1, batch_size: 16, loss: {{type: binary_cross_entropy, target: input}}, {SGD}}}
""",
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_learns_passes(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.yaml").write_text(f"cnnspec: 1{RIGHT[name]}")
    assert main(["smoke", str(tmp_path / "net.yaml")]) == 0, capsys.readouterr().err


def test_time_that_is_up_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec_with(tmp_path, "learning_rate: 0.1", "learning_rate: 1e-9")
    assert main(["smoke", path, "--seconds", "0.001"]) == 4
    assert "the time was up: give it more, --seconds 0.004" in capsys.readouterr().err


def test_smoke_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", spec_with(tmp_path, "units: 5", "units: 7"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert [proof["name"] for proof in found["proofs"]] == ["first loss", "gradients", "one batch learned"]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("", "softmax_cross_entropy, 4 images"),
        ("  - softmax\n", "mean_squared_error, 4 images"),
        ("  - {type: reshape, shape: [5, 1, 1]}\n", "softmax_cross_entropy, 4 images"),
        ("  - {type: dense, units: 1}\n", "mean_squared_error, 4 images"),
        (
            "data: {source: {type: synthetic, shape: [1, 8, 8], target: values, classes: 5}}\n",
            "mean_squared_error",
        ),
        ("data: {source: {type: synthetic, shape: [1, 8, 8], target: classes, classes: 5}}\n", "binary_cross_entropy"),
    ],
)
def test_a_spec_without_training_is_trained_on_a_loss_for_its_output(
    tmp_path: Path, end: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC[: SPEC.index("train:")] + end)
    assert main(["smoke", str(path)]) == 0
    assert f"no train section: adam, {said}" in capsys.readouterr().err
    assert main(["gradcheck", str(path)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", UNTRAINED, ids=lambda path: path.stem)
def test_known_networks_pass(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", str(path), "--images", "4", "--seconds", "2000"]) == 0, capsys.readouterr().err


def test_gradcheck_finds_a_wrong_derivative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def halved(self: Relu, o: Operands) -> Step:
        y, dy, dx = o.y, o.dy, o.dx
        assert dx is not None

        def step() -> None:
            np.multiply(dy, 0.5 * (y > 0), out=dx)

        return step

    monkeypatch.setattr(Relu, "derivative", halved)
    path = spec_with(tmp_path, "units: 5", "units: 6")
    assert main(["gradcheck", path, "--json"]) == 4
    captured = capsys.readouterr()
    rows = {(row["layer"], row["array"]): row["error"] for row in json.loads(captured.out)["checks"]}
    assert {layer for (layer, _), error in rows.items() if error > 1e-5} == {"relu_1", "relu_2", WHOLE}
    assert "wrong gradients in relu 'relu_1', relu 'relu_2', loss 'the whole network'" in captured.err


@pytest.mark.parametrize("wrong", [0.0, 1e-3])
def test_a_kink_within_the_step_is_no_error_and_hides_none(wrong: float) -> None:
    """relu of numbers one of which lies nearer to 0 than the step, and a gradient with one element wrong or none."""
    random = np.random.default_rng(0)
    x, dy = random.standard_normal(1000), random.standard_normal(1000)
    x[0] = STEP / 10
    gradient = dy * (x > 0)
    gradient[-1] += wrong * np.linalg.norm(gradient)

    error = _error(lambda: float(dy @ np.maximum(x, 0)), x, gradient, random)
    assert wrong / 10 <= error <= 3 * wrong + 1e-6


def test_gradcheck_has_a_row_for_every_array() -> None:
    spec = load(ROOT / "specs" / "lenet5.yaml")
    found = list(gradcheck(spec, build(spec)))
    assert ("conv2d_1", "weight") in {(check.layer, check.array) for check in found}
    assert max(check.error for check in found) < 1e-6
    assert Tanh.type_name in {check.type for check in found}
