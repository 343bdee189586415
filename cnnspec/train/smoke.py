"""A proof in seconds that a network can learn: made-up images, its own loss and optimizer, one batch."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cnnspec.graph import Graph, Node
from cnnspec.graph.passes import remove_train_only
from cnnspec.kernels.step import Array
from cnnspec.optim.optimizers import Adam
from cnnspec.plan import Plan
from cnnspec.plan.state.parameters import Slot
from cnnspec.spec import Spec
from cnnspec.train.diagnose import values
from cnnspec.train.network import Network
from cnnspec.train.random_labels import random_labels

LEARNED = 0.2  # the part of the way from the first to the lowest loss of a batch that may be left
LARGEST_START = 10  # times the loss of equal scores; deep residual networks start at four times, and learn
MOST_STEPS = 400  # with the spec's own optimizer
MOST_STEPS_OF_ADAM = 4000  # a small network needs many steps, but each is quick
PATIENCE = 400  # steps in which the loss must fall by a hundredth of the goal
AWAKENING = 3  # steps after which weights that start at zero pass gradients on
DIFFERENT = 8  # the most different images in the batch


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of one test of learning; if it failed, `layer` and `advice` may say why."""

    name: str
    passed: bool
    figure: str
    layer: str | None = None
    advice: str | None = None


def smoke(spec: Spec, graph: Graph, *, images: int | None = None, seconds: float = 20.0) -> Iterator[Proof]:
    """Test the first loss, the gradients, and one batch learned by heart; the spec needs a train section.

    The batch has the spec's own size unless `images` is given, so that the plan is the one that trains. It repeats a
    few images: the network has to learn these by heart.
    """
    assert spec.train is not None
    images = images or spec.train.batch_size
    model = Network(spec, graph)
    plan = model.plan(images, "train", "float32")
    random = np.random.default_rng(spec.seed)
    different = _images(random, (min(images, DIFFERENT), *spec.input))
    if model.learned.kind == "mask":
        levels = max(graph.output.shape[0], 2)
        noise = random.random(different[:, :1].shape, np.float32)
        different[...] = np.minimum(np.floor(noise * levels), levels - 1) / (levels - 1)
    if spec.train.loss.reads_input and different.ndim == 4:
        different[...] = _areas(different, 2).round()  # a narrow network can reproduce areas, but no noise
    which = np.arange(images) % len(different)
    plan.images[...] = different[which]
    classes = max(graph.output.shape[0], 2) if plan.predictions is not None else None
    plan.labels[...] = random_labels(model, different, random)[which]
    plan.compute()
    first = float(plan.losses.mean())
    yield _first_loss(model, plan, first, classes)
    yield _gradients(model, plan)
    yield _learned(model, plan, first, seconds)


def _images(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Make images of noise, for maps with 4 by 4 areas of random brightness: maps of pure noise have equal means."""
    images = random.random(shape, np.float32)
    return (images + _areas(random.random(shape, np.float32), 4)) / 2 if images.ndim == 4 else images


def _areas(images: Array, count: int) -> Array:
    """Coarsen images to `count` areas in each direction, each of the colour of one of its pixels."""
    rows, columns = (np.arange(length) * count // length for length in images.shape[-2:])
    return np.asarray(images[..., rows[:, None], columns])


def _first_loss(model: Network, plan: Plan, loss: float, classes: int | None) -> Proof:
    """Test that the loss starts near that of a network which finds all classes equally likely, if that is known."""
    name = "first loss"
    if not math.isfinite(loss):
        overflow = "numbers overflow in the forward pass: add batch_norm, or start with smaller weights"
        return Proof(name, False, f"{loss}", _loudest(model, plan), overflow)
    expected = None if classes is None or plan.loss is None else plan.loss.unlearned(plan.labels, classes)
    if classes is None or expected is None:
        return Proof(name, True, f"{loss:.4g}")
    origin = f"ln({classes})" if math.isclose(expected, math.log(classes)) else f"that of {classes} equal scores"
    figure = f"{loss:.4f}, {origin} = {expected:.4f}" if loss < 1e4 else f"{loss:.4g}, {origin}"
    if 0.5 * expected <= loss <= LARGEST_START * expected:
        return Proof(name, True, figure)
    advice = "the logits start too large: check weight_init, or add batch_norm before the last layer"
    return Proof(name, False, figure, _loudest(model, plan), advice)


def _gradients(model: Network, plan: Plan) -> Proof:
    """Test that every trained parameter gets a finite gradient that is not all zeros.

    Weights that start at zero, as those of a branch or of the last layer may, make other gradients zero at first:
    these are tested again after a few steps.
    """
    name, spec, training = "gradients", model.spec, model.training
    assert spec.train is not None
    assert training is not None
    slots = [slot for slot in model.weights.slots if slot.node.trainable]
    if not slots:
        return Proof(name, False, "no parameter is trained", None, "leave out trainable: false somewhere")
    for slot in slots:
        if not all(np.isfinite(shard[slot.start : slot.stop]).all() for shard in training.gradients):
            advice = "its gradient overflows: lower the weights, or normalise what it reads"
            return Proof(name, False, f"{slot.key} is not finite", slot.node.name, advice)

    def silent() -> list[Slot]:
        return [slot for slot in slots if not any(shard[slot.start : slot.stop].any() for shard in training.gradients)]

    quiet = silent()
    if not quiet:
        return Proof(name, True, f"{len(slots)} arrays, all finite and none zero")
    for _ in range(AWAKENING):
        plan.step(spec.train.optimizer.learning_rate)
    still = silent()
    if still:
        layer, advice = _silencer(model, plan, still[0].node)
        return Proof(name, False, f"{still[0].key} is all zeros", layer, advice)
    return Proof(name, True, f"{len(slots)} arrays, all finite, {len(quiet)} of them zero at the first step only")


def _learned(model: Network, plan: Plan, first: float, seconds: float) -> Proof:
    """Test that the loss of one batch falls to a fraction, with the spec's optimizer, or with adam if that is slow."""
    name, spec = "one batch learned", model.spec
    assert spec.train is not None
    assert plan.loss is not None
    rate = spec.train.optimizer.learning_rate
    least = plan.loss.least(plan.labels, model.graph.output.shape[0], plan.images)
    goal = least + LEARNED * (first - least)
    loss, steps, _ = _overfit(plan, rate, goal, seconds / 2)
    if not math.isfinite(loss) or loss > 10 * first:
        advice = f"lower the learning rate (it is {rate:g}), or add warm-up"
        return Proof(name, False, f"loss {first:.4g} to {loss:.4g}", _moved(model, most=True), advice)
    if loss <= goal:
        return Proof(name, True, f"loss {first:.4g} to {loss:.4g} in {steps} steps")
    again, (quick, more, time_is_up) = _with_adam(model, plan, model.graph, goal, seconds / 2)
    figure = f"loss {first:.4g} to {quick:.4g} in {more} steps of adam, to {loss:.4g} in {steps} of its own optimizer"
    if quick <= goal:
        return Proof(name, True, figure)
    if time_is_up and math.isfinite(quick):
        return Proof(name, False, figure, None, f"the time was up: give it more, --seconds {4 * seconds:g}")
    dropping = [node for node in model.graph.nodes if _drops(node)]
    if dropping:
        graph = remove_train_only(model.graph)
        if _with_adam(model, plan, graph, goal, seconds / 2)[1].loss <= goal:
            most = max(dropping, key=lambda node: float(getattr(node.layer, "rate", 0)))
            return Proof(name, False, figure, most.name, "without its dropout it learns: lower the rate")
    advice = "look for activations that saturate or die, or a missing path; see what `validate` warns of"
    return Proof(name, False, figure, _moved(again, most=False), advice)


def _with_adam(model: Network, plan: Plan, graph: Graph, goal: float, seconds: float) -> tuple[Network, Trial]:
    """Train another model on the same batch with adam, as long as its loss falls."""
    assert model.spec.train is not None
    again = Network(dataclasses.replace(model.spec, train=model.spec.train.but(optimizer=Adam())), graph)
    other = again.plan(plan.batch, "train", "float32")
    other.images[...], other.labels[...] = plan.images, plan.labels
    return again, _overfit(other, Adam().learning_rate, goal, seconds, MOST_STEPS_OF_ADAM)


class Trial(NamedTuple):
    """The result of learning one batch: its last loss, the steps, and whether the time was up."""

    loss: float
    steps: int
    time_is_up: bool = False


def _overfit(plan: Plan, rate: float, goal: float, seconds: float, steps: int = MOST_STEPS) -> Trial:
    """Train on the plan's batch until it is learned, hopeless, or the time is up."""
    started, loss, lowest, since = time.thread_time(), goal, math.inf, 0
    for step in range(1, steps + 1):
        plan.step(rate)
        loss = float(plan.losses.mean())
        if not goal < loss < 1e6 * goal:
            return Trial(loss, step)
        if time.thread_time() - started > seconds:
            return Trial(loss, step, time_is_up=True)
        if loss < lowest - 0.01 * goal:
            lowest, since = loss, step
        elif step - since >= PATIENCE:
            return Trial(loss, step)
    return Trial(loss, steps)


def _silencer(model: Network, plan: Plan, of: Node) -> tuple[str, str]:
    """Find the layer that causes a layer's zero gradient; return its name and advice."""
    read = {of.name}
    for node in model.graph.nodes:
        if read & set(node.inputs):
            read.add(node.name)
    read_by_losses = {value for head in model.graph.heads for value in head.values} or {model.graph.output.name}
    if not read & read_by_losses:
        return of.name, "nothing on the way to the output reads it: name it under from, or remove it"
    for node, inputs, output in values(model, plan.images):
        if _are_images_equal(output) and not all(map(_are_images_equal, inputs)):
            if _drops(node):
                return node.name, "it drops all that it reads: lower the rate"
            return node.name, "its output is the same for every image: look at its initial weights and biases"
    return of.name, "nothing that follows depends on it: look for dead activations, or a bias before batch_norm"


def _drops(node: Node) -> bool:
    """Whether a node is a kind of dropout."""
    return node.layer.train_only and bool(getattr(node.layer, "rate", 0))


def _are_images_equal(array: Array) -> bool:
    """Whether all images have the same values."""
    return bool((array == array[..., :1]).all())


def _loudest(model: Network, plan: Plan) -> str | None:
    """The layer with parameters whose output is largest relative to its input."""
    gains: dict[str, float] = {}
    with np.errstate(all="ignore"):
        for node, inputs, output in values(model, plan.images):
            if node.params:
                gain = float(np.abs(output).mean(dtype=float) / np.abs(inputs[0]).mean(dtype=float))
                gains[node.name] = gain
                if not math.isfinite(gain):
                    break
    return max(gains, key=lambda name: gains[name] if gains[name] == gains[name] else math.inf) if gains else None


def _moved(model: Network, *, most: bool) -> str | None:
    """The layer whose weights moved most, or least, since the start, relative to their size."""
    fresh = Network(model.spec, model.graph, threads=1)
    with np.errstate(all="ignore"):
        moves = {
            slot.node.name: float(np.linalg.norm(model.params[slot.key] - fresh.params[slot.key]))
            / max(float(np.linalg.norm(fresh.params[slot.key])), 1e-12)
            for slot in model.weights.slots
            if slot.name == "weight" and slot.stop <= model.weights.trained
        }
    if not moves:
        return None
    lost = [name for name, move in moves.items() if not math.isfinite(move)]
    return lost[0] if lost else (max if most else min)(moves, key=lambda name: moves[name])
