"""Losses against their formulas and against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from cnnspec.fields import create
from cnnspec.kernels.step import Array, step_state
from cnnspec.optim import Loss
from cnnspec.optim.losses import (
    BinaryCrossEntropy,
    Dice,
    Elementwise,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    SoftmaxCrossEntropy,
)
from cnnspec.shapes import ShapeError
from cnnspec.target import KINDS, VOID, Target, measured

LOSSES: list[Loss] = [
    SoftmaxCrossEntropy(),
    SoftmaxCrossEntropy(label_smoothing=0.1),
    SoftmaxCrossEntropy.of(label_smoothing=0.2, class_weights=[1, 2, 0.5, 3, 1]),
    MeanSquaredError(),
    Huber(delta=0.7),
    BinaryCrossEntropy(),
    BinaryCrossEntropy.of(class_weights=[1, 2, 0.5, 3, 0]),
    MeanSquaredError.of(class_weights=[1, 2, 0.5, 3, 0]),
]


THREE = Target("class", tuple("abc"))
CLASSES = Target("class", tuple("0123456789"))


def run(loss: Loss, prediction: Array, target: Array, batch: int) -> tuple[Array, Array]:
    count = prediction.shape[1]
    losses, gradient = np.full(count, np.nan, prediction.dtype), np.full_like(prediction, np.nan)
    buffers = {
        name: np.ones(buffer.shape, buffer.dtype or prediction.dtype)
        for name, buffer in loss.scratch(prediction.shape[:1], count).items()
    }
    with step_state():
        loss.bind(prediction, target, gradient, losses, buffers, batch)()
    return losses, gradient


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradient_is_the_derivative_of_the_mean(loss: Loss) -> None:
    random = np.random.default_rng(0)
    prediction, labels = random.standard_normal((5, 7)), random.integers(0, 5, 7)
    _, gradient = run(loss, prediction, labels, batch=14)
    direction, small = random.standard_normal(prediction.shape), 1e-6
    above = run(loss, prediction + small * direction, labels, 14)[0].sum() / 14
    below = run(loss, prediction - small * direction, labels, 14)[0].sum() / 14
    np.testing.assert_allclose((gradient * direction).sum(), (above - below) / (2 * small), rtol=1e-7)


def test_cross_entropy_is_minus_the_log_of_the_labels_probability() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.standard_normal((4, 6)) * 3, random.integers(0, 4, 6)
    probabilities = np.exp(logits) / np.exp(logits).sum(0)
    losses, _ = run(SoftmaxCrossEntropy(), logits, labels, 6)
    np.testing.assert_allclose(losses, -np.log(probabilities[labels, np.arange(6)]), rtol=1e-12)


def test_smoothing_spreads_the_target() -> None:
    logits, labels = np.random.default_rng(2).standard_normal((4, 3)), np.array([0, 3, 1])
    logs = logits - np.log(np.exp(logits).sum(0))
    target = np.full((4, 3), 0.2 / 4)
    target[labels, np.arange(3)] += 0.8
    losses, _ = run(SoftmaxCrossEntropy(label_smoothing=0.2), logits, labels, 3)
    np.testing.assert_allclose(losses, -(target * logs).sum(0), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES[:3], ids=str)
def test_the_least_loss_is_that_of_logits_which_say_the_target(loss: SoftmaxCrossEntropy) -> None:
    labels = np.array([0, 4, 2, 2])
    target = np.full((5, 4), loss.label_smoothing / 5 + 1e-300)  # a logit of -690 where there is no smoothing
    target[labels, np.arange(4)] += 1 - loss.label_smoothing
    losses, gradient = run(loss, np.log(target), labels, 4)
    np.testing.assert_allclose(gradient, 0, atol=1e-15)
    np.testing.assert_allclose(losses.mean(), loss.least(labels, 5), rtol=1e-12)


def test_cross_entropy_stays_finite_for_large_logits() -> None:
    losses, gradient = run(SoftmaxCrossEntropy(), np.array([[1e4], [-1e4]]), np.array([1]), 1)
    np.testing.assert_allclose(losses, [2e4])
    np.testing.assert_allclose(gradient, [[1], [-1]])


def test_squared_error_is_a_mean_over_outputs() -> None:
    losses, _ = run(MeanSquaredError(), np.array([[0.5], [0.25]]), np.array([0]), 1)
    np.testing.assert_allclose(losses, [(0.25 + 0.0625) / 2])


def test_outputs_must_be_as_many_as_classes() -> None:
    with pytest.raises(ShapeError, match="expected 10 outputs, one for each class of the data, got 12") as caught:
        SoftmaxCrossEntropy().check((12,), CLASSES, (1, 8, 8))
    assert caught.value.help == "use units: 10"
    with pytest.raises(ShapeError, match="expects a vector of class scores, got a map of 3x4x4"):
        SoftmaxCrossEntropy().check((3, 4, 4), CLASSES, (1, 8, 8))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_shares_of_classes_are_targets_as_labels_are(loss: Loss) -> None:
    random = np.random.default_rng(3)
    prediction, labels = random.standard_normal((5, 6)), random.integers(0, 5, 6)
    one_hot = (np.arange(5)[:, None] == labels).astype(np.float32)
    for by_labels, by_shares in zip(run(loss, prediction, labels, 6), run(loss, prediction, one_hot, 6), strict=True):
        np.testing.assert_array_equal(by_labels, by_shares)


def test_cross_entropy_of_mixed_targets() -> None:
    random = np.random.default_rng(4)
    logits, shares = random.standard_normal((4, 3)), random.dirichlet(np.ones(4), 3).T
    logs = logits - np.log(np.exp(logits).sum(0))
    losses, gradient = run(SoftmaxCrossEntropy(), logits, shares, 3)
    np.testing.assert_allclose(losses, -(shares * logs).sum(0), rtol=1e-12)
    np.testing.assert_allclose(gradient, (np.exp(logs) - shares) / 3, rtol=1e-12)


@pytest.mark.parametrize("weights", [[], [0, 0.0], [1, -1], [1, float("nan")], [float("inf"), 1]])
def test_class_weights_are_0_or_more_and_not_all_0(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="class_weights: expected numbers of at least 0, one of them above 0"):
        SoftmaxCrossEntropy.of(class_weights=weights)


def test_class_weights_count_images() -> None:
    logits, labels = np.random.default_rng(3).standard_normal((3, 4)), np.array([0, 2, 1, 2])
    plain, _ = run(SoftmaxCrossEntropy(), logits, labels, 4)
    weighted, _ = run(SoftmaxCrossEntropy.of(class_weights=[0.5, 1, 4]), logits, labels, 4)
    np.testing.assert_allclose(weighted, plain * np.array([0.5, 4, 1, 4]))
    with pytest.raises(ShapeError, match="expected 3 class_weights, one for each output, got 2"):
        SoftmaxCrossEntropy.of(class_weights=[1, 2]).check((3,), Target("class", tuple("abc")), (1, 8, 8))


def test_binary_cross_entropy_by_its_definition_and_without_overflow() -> None:
    logits, labels = np.random.default_rng(4).standard_normal((3, 5)), np.array([0, 2, 1, 2, 0])
    target, sigmoid = np.arange(3)[:, None] == labels, 1 / (1 + np.exp(-logits))
    losses, _ = run(BinaryCrossEntropy(), logits, labels, 5)
    expected = -(target * np.log(sigmoid) + (1 - target) * np.log(1 - sigmoid)).mean(0)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    losses, gradient = run(BinaryCrossEntropy(), np.array([[1e4], [-1e4]]), np.array([1]), 1)
    np.testing.assert_allclose(losses, [1e4])
    np.testing.assert_allclose(gradient, [[0.5], [-0.5]])


def test_huber_is_a_square_near_and_a_line_far() -> None:
    losses, gradient = run(Huber(delta=0.5), np.array([[1.25], [3.0]]), np.array([0]), 1)
    np.testing.assert_allclose(losses, [(0.25**2 / 2 + 0.5 * (3 - 0.25)) / 2])
    np.testing.assert_allclose(gradient, [[0.125], [0.25]])


@pytest.mark.parametrize("loss", [MeanSquaredError, Huber, BinaryCrossEntropy])
def test_the_input_can_be_the_target(loss: type[MeanSquaredError | Huber | BinaryCrossEntropy]) -> None:
    reading = loss(target="input")
    assert reading.reads_input
    reading.check((1, 4, 5), CLASSES, (1, 4, 5))
    with pytest.raises(ShapeError, match="expected an output of the input's shape 1x4x5, got 2x4x5"):
        reading.check((2, 4, 5), CLASSES, (1, 4, 5))
    random = np.random.default_rng(5)
    prediction, given = random.random((4, 1, 5, 3)), random.random((4, 1, 5, 3))
    losses, gradient = np.empty(3), np.empty_like(prediction)
    buffers = {name: np.empty(buffer.shape) for name, buffer in reading.scratch((1, 4, 5), 3).items()}
    with step_state():
        reading.bind(prediction, given, gradient, losses, buffers, 3)()
    if loss is MeanSquaredError:
        np.testing.assert_allclose(losses, ((prediction - given) ** 2).mean((0, 1, 2)))
        np.testing.assert_allclose(gradient, 2 * (prediction - given) / 60)
    assert np.isfinite(gradient).all()


class AbsoluteError(Elementwise):
    """L = 1/K sum_k |y_k - t_k|: the least that a loss of one's own has."""

    def compare(self, prediction: Array, target: Array, loss: Array, derivative: Array) -> None:
        """|y - t|, sign(y - t)."""
        np.subtract(prediction, target, out=derivative)
        np.abs(derivative, out=loss)
        np.sign(derivative, out=derivative)


def test_a_loss_of_ones_own_is_one_formula() -> None:
    losses, gradient = run(AbsoluteError(), np.array([[1.5, 0.0], [-0.5, 0.25]]), np.array([0, 1]), 2)
    np.testing.assert_allclose(losses, [0.5, 0.375])
    np.testing.assert_allclose(gradient, [[0.25, 0], [-0.25, -0.25]])
    assert AbsoluteError().least(np.array([0]), 2) == 0
    assert AbsoluteError().unlearned(np.array([0]), 2) is None


WEIGHTS = st.one_of(st.none(), st.lists(st.floats(0, 5), min_size=5, max_size=5).filter(any))
RANDOM: st.SearchStrategy[Loss] = st.one_of(
    st.builds(SoftmaxCrossEntropy, label_smoothing=st.floats(0, 0.999), class_weights=WEIGHTS),
    st.builds(MeanSquaredError, class_weights=WEIGHTS),
    st.builds(Huber, delta=st.floats(1e-3, 1e3), class_weights=WEIGHTS),
    st.builds(BinaryCrossEntropy, class_weights=WEIGHTS),
)


@pytest.mark.filterwarnings("default")
@settings(max_examples=500, deadline=None)
@drawn(RANDOM, st.sampled_from([1e-9, 0.1, 1.0, 30.0, 1e3, 1e8]), st.booleans(), st.integers(0, 1000))
def test_pytorch_agrees(loss: Loss, scale: float, mixed: bool, seed: int) -> None:
    """On scores of any size, and on labels and mixed targets alike."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(seed)
    prediction, labels = scale * random.standard_normal((5, 6)), random.integers(0, 5, 6)
    target = random.dirichlet(np.ones(5), 6).T if mixed else labels
    shares = target if mixed else (np.arange(5)[:, None] == labels).astype(float)
    z, t = torch.tensor(prediction.T.copy(), requires_grad=True), torch.tensor(shares.T.copy())
    functional = torch.nn.functional
    match loss:
        case SoftmaxCrossEntropy():
            each = functional.cross_entropy(z, t, reduction="none", label_smoothing=loss.label_smoothing)
        case Huber():
            each = functional.huber_loss(z, t, reduction="none", delta=loss.delta).mean(1)
        case BinaryCrossEntropy():
            each = functional.binary_cross_entropy_with_logits(z, t, reduction="none").mean(1)
        case _:
            each = functional.mse_loss(z, t, reduction="none").mean(1)
    weights = getattr(loss, "class_weights", None)
    if weights is not None:
        each = each * (t @ torch.tensor(weights, dtype=torch.float64))
    each.mean().backward()
    losses, gradient = run(loss, prediction, target, 6)
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient, z.grad.numpy().T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), BinaryCrossEntropy()], ids=str)
def test_the_largest_scores_on_the_right_side_lose_nothing(loss: Loss, dtype: str) -> None:
    largest = np.finfo(dtype).max
    losses, gradient = run(loss, np.array([[largest], [-largest], [-largest]], dtype), np.array([0]), 1)
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(gradient, 0)


def test_the_largest_scores_on_the_wrong_side_have_a_finite_gradient() -> None:
    largest = np.finfo("float32").max
    prediction = np.array([[largest], [-largest], [-largest]], "float32")
    losses, gradient = run(SoftmaxCrossEntropy(), prediction, np.array([1]), 1)
    assert losses[0] >= largest
    np.testing.assert_array_equal(gradient, [[1], [-1], [0]])
    losses, gradient = run(BinaryCrossEntropy(), prediction / 4, np.array([1]), 1)
    np.testing.assert_allclose(losses, np.array([largest / 6]), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.array([[1 / 3], [-1 / 3], [0]]), rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_score_that_is_no_number_shows_in_the_loss(loss: Loss, score: float) -> None:
    prediction = np.zeros((5, 2))
    prediction[3, 1] = score
    losses, _ = run(loss, prediction, np.array([1, 1]), 2)
    assert np.isfinite(losses[0])
    assert not np.isfinite(losses[1])


def test_a_yes_of_which_the_network_is_sure_loses_little_but_not_nothing() -> None:
    """log(1 + e^-z) is far below the rounding of z in single precision."""
    losses, gradient = run(BinaryCrossEntropy(), np.array([[12.0], [-12.0]], "float32"), np.array([0]), 1)
    np.testing.assert_allclose(losses, [np.log1p(np.exp(-12.0))], rtol=1e-6)
    np.testing.assert_allclose(gradient[1], 0.5 / (1 + np.exp(12.0)), rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_probabilities_are_those_that_the_loss_compares(loss: Loss) -> None:
    scores = np.array([-3.0, 0.2, 0.9, 5.0, -1000.0])
    found = loss.probabilities(scores)
    expected = {
        "softmax": np.exp(scores) / np.exp(scores).sum(),
        "sigmoid": 1 / (1 + np.exp(np.minimum(-scores, 700))),
        None: np.array([0, 0.2, 0.9, 1, 0]),
    }[loss.applies]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES[:3], ids=str)
def test_equal_scores_lose_what_is_not_learned(loss: Loss) -> None:
    labels = np.array([0, 1, 1, 3])
    losses, _ = run(loss, np.full((5, 4), 0.3), labels, 4)
    assert loss.unlearned(labels, 5) == pytest.approx(losses.mean(), rel=1e-12)


def maps(random: np.random.Generator, classes: int, scale: float = 2.0) -> tuple[Array, Array]:
    """Scores (h, c, w, n) and classes (h, w, n) of a few maps."""
    return scale * random.standard_normal((3, classes, 5, 4)), random.integers(0, max(classes, 2), (3, 5, 4))


def run_maps(loss: Loss, prediction: Array, target: Array, batch: int) -> tuple[Array, Array]:
    h, c, w, n = prediction.shape
    losses, gradient = np.full(n, np.nan), np.full_like(prediction, np.nan)
    buffers = {
        name: np.full(buffer.shape, 7, buffer.dtype or float) for name, buffer in loss.scratch((c, h, w), n).items()
    }
    with step_state():
        loss.bind(prediction, target, gradient, losses, buffers, batch)()
    return losses, gradient


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 3.0)])
def test_cross_entropy_of_maps_is_that_of_pytorch(smoothing: float, weights: tuple[float, ...] | None) -> None:
    torch = pytest.importorskip("torch")
    prediction, target = maps(np.random.default_rng(0), 3)
    loss = SoftmaxCrossEntropy(label_smoothing=smoothing, class_weights=weights)
    losses, gradient = run_maps(loss, prediction, target, 4)
    z, t = torch.tensor(prediction.transpose(3, 1, 0, 2), requires_grad=True), torch.tensor(target.transpose(2, 0, 1))
    each = torch.nn.functional.cross_entropy(z, t, reduction="none", label_smoothing=smoothing)
    if weights is not None:
        each = each * torch.tensor(weights, dtype=torch.float64)[t]
    each = each.mean((1, 2))
    each.mean().backward()
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient.transpose(3, 1, 0, 2), z.grad.numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 3.0)])
def test_pixels_of_no_class_are_left_out_as_pytorch_does(smoothing: float, weights: tuple[float, ...] | None) -> None:
    torch = pytest.importorskip("torch")
    prediction, target = maps(np.random.default_rng(3), 3)
    target[:2, :, 1:] = VOID
    target[..., 3] = VOID  # an image of nothing else
    loss = SoftmaxCrossEntropy(label_smoothing=smoothing, class_weights=weights)
    losses, gradient = run_maps(loss, prediction, target, 4)
    z, t = torch.tensor(prediction.transpose(3, 1, 0, 2), requires_grad=True), torch.tensor(target.transpose(2, 0, 1))
    t = t.long()
    each = torch.nn.functional.cross_entropy(z, t, reduction="none", label_smoothing=smoothing, ignore_index=VOID)
    if weights is not None:
        each = each * torch.tensor([*weights, *[0.0] * VOID], dtype=torch.float64)[t]
    each = each.sum((1, 2)) / (t != VOID).sum((1, 2)).clamp(min=1)
    each.mean().backward()
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gradient.transpose(3, 1, 0, 2), z.grad.numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("loss", "outputs"), [(Dice(), 3), (BinaryCrossEntropy(), 1), (BinaryCrossEntropy(), 2)])
def test_pixels_of_no_class_change_nothing(loss: Loss, outputs: int) -> None:
    """The loss of a map is that of its other rows alone, and has no gradient in these."""
    prediction, target = maps(np.random.default_rng(4), outputs)
    target[2:] = VOID
    losses, gradient = run_maps(loss, prediction, target, 4)
    alone, expected = run_maps(loss, np.ascontiguousarray(prediction[:2]), np.ascontiguousarray(target[:2]), 4)
    np.testing.assert_allclose(losses, alone, rtol=1e-12)
    np.testing.assert_allclose(gradient[:2], expected, rtol=1e-12, atol=1e-15)
    assert not gradient[2:].any()


@pytest.mark.parametrize("smooth", [1.0, 1e-3])
@pytest.mark.parametrize("weights", [None, (1.0, 0.25, 3.0)])
def test_dice_by_its_definition(smooth: float, weights: tuple[float, ...] | None) -> None:
    torch = pytest.importorskip("torch")
    prediction, target = maps(np.random.default_rng(1), 3)
    losses, gradient = run_maps(Dice(smooth=smooth, class_weights=weights), prediction, target, 4)
    z, t = torch.tensor(prediction.transpose(3, 1, 0, 2), requires_grad=True), torch.tensor(target.transpose(2, 0, 1))
    total = []
    for scores, labels in zip(torch.softmax(z, 1), t, strict=True):
        classes = []
        for k in range(3):
            there = (labels == k).double()
            common = (2 * (scores[k] * there).sum() + smooth) / (scores[k].sum() + there.sum() + smooth)
            classes.append((1 - common) * (weights[k] if weights else 1))
        total.append(sum(classes) / 3)
    (sum(total) / 4).backward()
    np.testing.assert_allclose(losses, [float(one.detach()) for one in total], rtol=1e-12)
    np.testing.assert_allclose(gradient.transpose(3, 1, 0, 2), z.grad.numpy(), rtol=1e-9, atol=1e-15)


def test_one_map_of_scores_says_yes_or_no_of_each_pixel() -> None:
    torch = pytest.importorskip("torch")
    prediction, target = maps(np.random.default_rng(2), 1)
    losses, _ = run_maps(BinaryCrossEntropy(), prediction, target, 4)
    z, t = torch.tensor(prediction[:, 0].transpose(2, 0, 1)), torch.tensor(target.transpose(2, 0, 1))
    each = torch.nn.functional.binary_cross_entropy_with_logits(z, t.double(), reduction="none")
    np.testing.assert_allclose(losses, each.mean((1, 2)).numpy(), rtol=1e-12)


def test_mean_absolute_error_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(3)
    prediction, target = random.standard_normal((3, 6)), random.standard_normal((3, 6))
    losses, gradient = run(MeanAbsoluteError(), prediction, target, 6)
    z = torch.tensor(prediction.T.copy(), requires_grad=True)
    each = torch.nn.functional.l1_loss(z, torch.tensor(target.T.copy()), reduction="none").mean(1)
    each.mean().backward()
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient.T, z.grad.numpy(), rtol=1e-12)


def test_the_weights_of_yes_and_no_are_those_of_pytorch() -> None:
    """Any number of classes an image: `pos_weight`, and with `balanced` a weight of each no too."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(6)
    prediction, labels = random.standard_normal((3, 40)), (random.random((40, 3)) < (0.1, 0.5, 0.8)).astype(np.float32)
    target = measured("classes", ("a", "b", "c"), labels)
    z, t = torch.tensor(prediction.T.copy(), requires_grad=True), torch.tensor(labels.astype(np.float64))
    for given, yes in (([2, 0.5, 3], [2, 0.5, 3]), ({"b": 4}, [1, 4, 1])):
        loss = BinaryCrossEntropy.of(class_weights=given)
        loss.check((3,), target, (1, 4, 4))
        losses, gradient = run(loss.fitted(target, 3), prediction, np.ascontiguousarray(labels.T), 40)
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            z, t, reduction="none", pos_weight=torch.tensor(yes, dtype=torch.float64)
        ).mean(1)
        (expected,) = torch.autograd.grad(each.mean(), z)
        np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(gradient.T, expected.numpy(), rtol=1e-9, atol=1e-15)
    balanced = BinaryCrossEntropy.of(class_weights="balanced").fitted(target, 3)
    weights = np.array([[40 / (2 * (labels[:, k] == no).sum()) for k in range(3)] for no in (0, 1)])
    assert balanced.class_weights == pytest.approx(tuple(weights.ravel()))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        z, t, reduction="none", weight=torch.tensor(np.where(labels == 1, weights[1], weights[0]))
    ).mean(1)
    losses, _ = run(balanced, prediction, np.ascontiguousarray(labels.T), 40)
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-9)
    assert balanced.fitted(target, 3) == balanced
    zeros, _ = run(balanced, np.zeros((3, 40)), np.ascontiguousarray(labels.T), 40)
    assert balanced.unlearned(labels, 3) == pytest.approx(zeros.mean(), rel=1e-6)


@pytest.mark.parametrize(("given", "pair"), [("balanced", (4 / 6, 2.0)), ({"b": 5}, (1, 5)), ([0.5, 3], (0.5, 3))])
def test_one_output_has_the_weights_of_two_classes(given: Any, pair: tuple[float, float]) -> None:
    torch = pytest.importorskip("torch")
    labels = np.array([0, 1, 0, 0])
    target = measured("class", ("a", "b"), labels)
    loss = BinaryCrossEntropy.of(class_weights=given)
    loss.check((1,), target, (1, 4, 4))
    loss = loss.fitted(target, 1)
    assert loss.class_weights == pytest.approx(pair)
    prediction = np.random.default_rng(7).standard_normal((1, 4))
    losses, gradient = run(loss, prediction, labels, 4)
    z = torch.tensor(prediction[0].copy(), requires_grad=True)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        z, torch.tensor(labels.astype(float)), reduction="none", weight=torch.tensor(np.array(pair)[labels])
    )
    each.mean().backward()
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(gradient[0], z.grad.numpy(), rtol=1e-9)
    zeros, _ = run(loss, np.zeros((1, 4)), labels, 4)
    assert loss.unlearned(labels, 2) == pytest.approx(zeros.mean())


@pytest.mark.parametrize(("outputs", "weights"), [(1, (0.5, 3.0)), (3, (0.5, 3.0, 2.0))])
def test_weights_of_pixels_are_those_of_their_classes(outputs: int, weights: tuple[float, ...]) -> None:
    torch = pytest.importorskip("torch")
    prediction, target = maps(np.random.default_rng(8), outputs)
    target[0, :, 2] = VOID
    loss = BinaryCrossEntropy(class_weights=weights)
    loss.check((outputs, 3, 5), Target("mask", tuple("abc"[: len(weights)])), (1, 3, 5))
    losses, gradient = run_maps(loss, prediction, target, 4)
    z = torch.tensor(prediction.transpose(3, 1, 0, 2), requires_grad=True)
    label, counted = target.transpose(2, 0, 1), (target != VOID).transpose(2, 0, 1)
    hot = np.stack([label == k for k in (range(outputs) if outputs > 1 else (1,))], axis=1).astype(float)
    count = counted * np.array([*weights, *[0.0] * VOID])[label]
    each = torch.nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(hot), reduction="none")
    each = (each * torch.tensor(count)[:, None]).sum((1, 2, 3)) / (outputs * torch.tensor(counted.sum((1, 2))))
    each.mean().backward()
    np.testing.assert_allclose(losses, each.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(gradient.transpose(3, 1, 0, 2), z.grad.numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("loss", [MeanSquaredError, MeanAbsoluteError, Huber])
def test_what_has_no_classes_has_no_weights(loss: type[MeanSquaredError | MeanAbsoluteError | Huber]) -> None:
    weighted = loss.of(class_weights="balanced")
    with pytest.raises(ShapeError, match="class_weights: the target is numbers, which has no classes") as caught:
        weighted.check((1,), Target("values", ("age",)), (1, 4, 4))
    assert caught.value.help == "leave them out"
    with pytest.raises(ShapeError, match="class_weights: the target is the input itself, which has no classes"):
        loss.of(class_weights=[1, 2], target="input").check((1, 4, 4), THREE, (1, 4, 4))
    weighted.check((3,), THREE, (1, 4, 4))


KINDS_OF: list[tuple[Loss, set[str]]] = [
    (SoftmaxCrossEntropy(), {"class", "shares", "mask"}),
    (Dice(), {"mask"}),
    (BinaryCrossEntropy(), {"class", "shares", "classes", "mask"}),
    (MeanSquaredError(), {"class", "shares", "classes", "values"}),
    (MeanAbsoluteError(), {"class", "shares", "classes", "values"}),
    (Huber(), {"class", "shares", "classes", "values"}),
]


@pytest.mark.parametrize(("loss", "kinds"), KINDS_OF, ids=[loss.type_name for loss, _ in KINDS_OF])
def test_a_loss_refuses_targets_that_it_cannot_learn_with_a_cure(loss: Loss, kinds: set[str]) -> None:
    for kind in KINDS:
        if kind in ("input", "none", "several"):  # which no source has for a single loss
            continue
        output, target = ((2, 4, 4) if kind == "mask" else (2,)), Target(kind, ("a", "b"))
        if kind in kinds:
            loss.check(output, target, (1, 4, 4))
        else:
            with pytest.raises(ShapeError, match=f"cannot learn {KINDS[kind]}") as caught:
                loss.check(output, target, (1, 4, 4))
            cure = create("loss", str(caught.value.help).removeprefix("use ").split(",")[0].split(" or ")[0])
            cure.check(output, target, (1, 4, 4))


def test_a_mask_wants_a_map_of_the_inputs_size() -> None:
    with pytest.raises(ShapeError, match=r"expects scores for every pixel, a map of \(classes, 8, 8\), got 3x4x4"):
        SoftmaxCrossEntropy().check((3, 4, 4), Target("mask", tuple("abc")), (1, 8, 8))
    with pytest.raises(ShapeError, match="expected 3 outputs, one for each class of the data, got 2") as caught:
        Dice().check((2, 8, 8), Target("mask", tuple("abc")), (1, 8, 8))
    assert caught.value.help == "use filters: 3"
