"""Several losses in one training: their sum and its gradient against PyTorch, their figures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import main
from cnnspec.diagnostics import SpecError
from cnnspec.plan import Plan
from cnnspec.spec import load
from cnnspec.spec.load import loads
from cnnspec.train.network import Network

LAYERS = """\
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {id: stem, type: conv2d, filters: 4, kernel_size: 3, padding: same, activation: tanh}
  - flatten
  - {id: seen, type: dense, units: 12, activation: tanh}
  - {id: mean, type: dense, units: 3}
  - {id: log_variance, type: dense, units: 3, from: seen}
  - {id: scores, type: dense, units: 10, from: seen}
  - {type: square, from: seen}
  - {id: sizes, type: abs}
  - {type: dense, units: 64, from: mean}
  - {id: drawing, type: reshape, shape: [1, 8, 8]}
  - {type: global_avg_pool2d, from: stem}
  - {id: early, type: dense, units: 10}
data: {source: digits, preprocess: [scale], validation: {fraction: 0.1}, train: {limit: 200}}
"""
LOSSES = """\
train:
  epochs: 2
  optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9}
  losses:
    drawing: {loss: {type: binary_cross_entropy, target: input}, weight: 2}
    scores: {loss: {type: softmax_cross_entropy, label_smoothing: 0.1}}
    early: {weight: 0.4, training_only: true}
    kl: {layer: [mean, log_variance], loss: kl_divergence, weight: 0.25}
    small: {layer: sizes, loss: mean_output, weight: 0.5}
"""
STEPS = 3


def batch(step: int, n: int) -> tuple[Any, Any]:
    random = np.random.default_rng(step)
    return random.random((n, 1, 8, 8)), random.integers(0, 10, n)


def start(network: Network) -> dict[str, Any]:
    random = np.random.default_rng(7)
    for array in network.params.values():
        array[...] = random.standard_normal(array.shape) / 4
    return {name: array.copy() for name, array in network.params.items()}


def network(threads: int = 1, dtype: str = "float64") -> Network:
    spec = loads(LAYERS + LOSSES)
    return Network(spec, cnnspec.graph.build(spec), threads=threads, dtype=dtype)


def stepped(own: Network, n: int) -> tuple[Plan, list[float], list[dict[str, float]]]:
    """Some steps of training, with the loss of each and the losses that it is the sum of."""
    plan = own.plan(n, "train", "float64")
    losses, parts = [], []
    for step in range(STEPS):
        plan.images[...], plan.labels[...] = batch(step, n)
        plan.step(0.1)
        losses.append(float(plan.losses.mean()))
        parts.append({name: float(values.mean()) for name, values in plan.term_losses.items()})
    return plan, losses, parts


@pytest.mark.parametrize("n", [5, 70])  # one shard, and two
def test_losses_gradients_and_weights_are_pytorchs(n: int) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    own = network()
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in start(own).items()}
    _, losses, parts = stepped(own, n)

    def dense(name: str, x: Any) -> Any:
        return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def each(x: Any, y: Any) -> dict[str, Any]:
        stem = torch.tanh(functional.conv2d(x, tensors["stem.weight"], tensors["stem.bias"], padding=1))
        seen = torch.tanh(dense("seen", stem.flatten(1)))
        mean, log_variance = dense("mean", seen), dense("log_variance", seen)
        drawn = dense("dense_1", mean).reshape(x.shape)
        return {
            "drawing": functional.binary_cross_entropy_with_logits(drawn, x),
            "scores": functional.cross_entropy(dense("scores", seen), y, label_smoothing=0.1),
            "early": functional.cross_entropy(dense("early", stem.mean((2, 3))), y),
            "kl": -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean(),
            "small": (seen**2).abs().mean(),
        }

    weights = {"drawing": 2, "scores": 1, "early": 0.4, "kl": 0.25, "small": 0.5}
    optimizer = torch.optim.SGD(tensors.values(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        found = each(*map(torch.tensor, batch(step, n)))
        total = sum(weights[name] * loss for name, loss in found.items())
        total.backward()
        optimizer.step()
        assert losses[step] == pytest.approx(total.item(), rel=1e-11)
        assert parts[step] == pytest.approx({name: loss.item() for name, loss in found.items()}, rel=1e-11)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(own.params[name], tensor.detach(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_bits_do_not_depend_on_the_workers() -> None:
    found = []
    for threads in (1, 2):
        own = network(threads, "float32")
        start(own)
        plan = own.plan(70, "train", "float32")
        plan.images[...], plan.labels[...] = batch(0, 70)
        plan.step(0.1)
        found.append(own.fingerprint())
    assert found[0] == found[1]


def test_what_only_training_needs_is_left_out_of_inference() -> None:
    own = network()
    names = {node.name for node in own.plan(4, "infer", "float64").graph.nodes}
    assert "early" not in names
    assert {"scores", "kl"} <= names | set(own.heads.parts if own.heads else ())
    assert own.graph.parameter_count - own.graph.used_count == 4 * 10 + 10


def test_published_counts_of_inception_with_and_without_its_head() -> None:
    """torchvision's `inception_v3` has 27,161,264 parameters; with `aux_logits=False` it has 23,834,568."""
    path = Path(__file__).parents[1] / "graph" / "architectures" / "inception-v3.yaml"
    graph = cnnspec.graph.build(load(path))
    assert (graph.parameter_count, graph.used_count) == (27_161_264, 23_834_568)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("losses")
    path = folder / "net.yaml"
    gates = 'require: {test.scores.accuracy: ">= 0", test.kl.loss: "< 100", validation.loss: "< 100"}\n'
    path.write_text(LAYERS + LOSSES + gates)
    assert main(["train", str(path), "--quiet", "--out", str(folder / "runs")]) == 0
    return folder / "runs" / "net"


def test_every_epoch_has_the_figures_of_each_loss(run: Path) -> None:
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    weighted = {"drawing": 2, "scores": 1, "kl": 0.25, "small": 0.5}
    for split in ("validation", "test"):
        total = sum(weight * row[f"{split}.{name}.loss"] for name, weight in weighted.items())
        assert row[f"{split}.loss"] == pytest.approx(total, rel=1e-5)
        assert row[f"{split}.accuracy"] == row[f"{split}.scores.accuracy"]
        assert f"{split}.early.loss" not in row


def test_eval_prints_a_line_for_each_loss(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert main(["eval", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = ["test", "  drawing", "  scores", "  kl", "  small", "recall of each class"]
    assert [line.split(":")[0] for line in lines] == named
    assert f"{figures['kl.loss']:.4f}" in lines[3]


def test_a_run_of_several_losses_resumes_and_verifies(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(LAYERS + LOSSES)
    out = ["--quiet", "--out", str(tmp_path)]
    assert main(["train", str(path), "--max-steps", "5", *out]) == 0
    assert main(["train", "--quiet", "--resume", str(tmp_path / "net")]) == 0
    rows = [json.loads((of / "metrics.jsonl").read_text().splitlines()[-1]) for of in (run, tmp_path / "net")]
    assert rows[0]["weights"] == rows[1]["weights"]
    assert main(["verify", str(tmp_path / "net")]) == 0


def test_predict_gives_every_output(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    model = cnnspec.compile(run / "spec.yaml")
    model.load(run / "last.npz")
    found = model.predict(images)
    assert {name: array.shape for name, array in found.items()} == {"drawing": (3, 1, 8, 8), "scores": (3, 10)}
    np.testing.assert_array_equal(found["scores"], np.moveaxis(model.activations(images, "scores"), 0, 0))
    np.testing.assert_array_equal(found["drawing"], model.activations(images, "drawing"))
    np.save(tmp_path / "images.npy", images)
    asked = ["predict", str(run), str(tmp_path / "images.npy")]
    assert main([*asked, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["scores"]["classes"][0]["class"] for line in lines] == list(map(str, found["scores"].argmax(axis=1)))
    assert lines[0]["drawing"]["shape"] == [1, 8, 8]
    assert main([*asked, "-o", str(tmp_path / "outputs.npz")]) == 0
    with np.load(tmp_path / "outputs.npz") as written:
        np.testing.assert_array_equal(written["scores"], found["scores"])
    assert main([*asked, "-o", str(tmp_path / "outputs.npy")]) == 4
    assert "outputs.npz" in capsys.readouterr().err
    assert main([*asked, "-o", str(tmp_path / "answers.csv")]) == 0
    assert "scores.class,scores.score" in (tmp_path / "answers.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("losses", "message", "line"),
    [
        ("scores: {weight: -1}", "weight: expected a number at least 0, got -1", "weight: -1"),
        ("score: {}", "losses.score: no layer 'score'", "score: {}"),
        ("a: {layer: socres}", "losses.a: no layer 'socres'", "socres"),
        ("a: {layer: input}", "losses.a: no layer 'input'", "input"),
        ("a: {layer: [mean, scores]}", "softmax_cross_entropy reads one layer, got 2", "[mean"),
        ("kl: {layer: mean, loss: kl_divergence}", "kl_divergence reads 2 layers, got 1", "mean"),
        ("kl: {layer: [mean, scores], loss: kl_divergence}", "expects layers of one shape, got 3 and 10", "[mean"),
        ("scores: {target: color}", "the data have one target, which has no name, got 'color'", "color"),
        ("kl: {layer: [mean, log_variance], loss: kl_divergence, target: a}", "is compared with nothing", "a}"),
        ("mean: {}", "expected 10 outputs, one for each class of the data, got 3", "mean"),
        ("drawing: {}", "expects a vector of class scores, got a map of 1x8x8", "drawing"),
        ("scores: {training_only: true}", "every loss is there in training only", "true"),
        (
            "{kl: {layer: [mean, log_variance], loss: kl_divergence}, scores: {training_only: true}}",
            "the labels, no loss is measured by outside of training",
            "true",
        ),
        ("scores: {lose: huber}", "unknown key of train.losses.scores 'lose'", "lose"),
        ("'a b': {layer: scores}", "expected a name of letters, digits, dashes and underscores, got 'a b'", "'a b'"),
    ],
)
def test_mistakes_are_told_at_their_place(losses: str, message: str, line: str) -> None:
    text = f"{LAYERS}train:\n  epochs: 1\n  losses:\n    {losses}\n"
    with pytest.raises(SpecError) as error:
        cnnspec.check.checked(loads(text))
    found = [diagnostic for diagnostic in error.value.diagnostics if message in diagnostic.message]
    assert found, [diagnostic.message for diagnostic in error.value.diagnostics]
    where = text.splitlines()[found[0].span.line - 1]
    assert found[0].span.line > len(LAYERS.splitlines())
    assert where[found[0].span.column - 1 :].startswith(line) or line in where


def test_loss_and_losses_exclude_one_another() -> None:
    with pytest.raises(SpecError, match="expected loss or losses, got both"):
        loads(LAYERS + "train: {epochs: 1, loss: huber, losses: {scores: {}}}\n")


def test_a_figure_of_a_loss_that_is_not_there_is_told() -> None:
    with pytest.raises(SpecError, match=r"unknown metric 'test\.score\.accuracy'.*"):
        loads(LAYERS + LOSSES + 'require: {test.score.accuracy: "> 0"}\n')
    with pytest.raises(SpecError, match=r"expected a figure of the target.*got test\.kl\.accuracy"):
        cnnspec.check.checked(loads(LAYERS + LOSSES + 'require: {test.kl.accuracy: "> 0"}\n'))
    stopping = LOSSES.replace("epochs: 2", "epochs: 2\n  early_stopping: {metric: validation.early.loss}")
    with pytest.raises(SpecError, match=r"got validation\.early\.loss"):
        cnnspec.check.checked(loads(LAYERS + stopping))


def test_views_are_averaged_where_one_loss_is_left_outside_of_training(tmp_path: Path) -> None:
    heads = "train: {epochs: 1, losses: {scores: {weight: 0.5}, early: {training_only: true}}}\n"
    path = tmp_path / "net.yaml"
    path.write_text(LAYERS + heads)
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path)]) == 0
    assert main(["eval", str(tmp_path / "net"), "--tta", "shifts=1"]) == 0
    path.write_text(LAYERS.replace("data: {", "data: {tta: {shifts: 1}, ") + LOSSES)
    with pytest.raises(SpecError, match="tta: expected a network with one answer for each image, but it has several"):
        cnnspec.check.checked(load(path))
