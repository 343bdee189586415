"""Seconds-long proof that a network can learn: made-up images, its own loss and optimizer, one batch."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnspec.graph import Graph
from cnnspec.kernels.step import Array
from cnnspec.optim.optimizers import Adam
from cnnspec.plan import Plan
from cnnspec.spec import Spec
from cnnspec.train.model import Model

LEARNED = 0.2  # share of what there is to learn that may be left of one batch, seen again and again
MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that a network which can learn shows; `layer` and `advice` where it does not."""

    name: str
    passed: bool
    figure: str
    layer: str | None = None
    advice: str | None = None


def smoke(spec: Spec, graph: Graph, *, images: int = 8, seconds: float = 20.0) -> Iterator[Proof]:
    """The first loss, the gradients, and one batch learned by heart; the spec needs a train section."""
    assert spec.train is not None
    model = Model(spec, graph)
    plan = model.plan(images, "train", "float32")
    random = np.random.default_rng(spec.seed)
    plan.images[...] = random.random(plan.images.shape, np.float32)
    classes = graph.output.shape[0] if plan.predictions is not None else None
    plan.labels[...] = np.arange(images) % (classes or 1)
    plan.compute()
    first = float(plan.losses.mean())
    yield _first_loss(spec, first, classes)
    yield _gradients(model)
    yield _learned(model, plan, first, seconds)


def _first_loss(spec: Spec, loss: float, classes: int | None) -> Proof:
    """Cross-entropy knows nothing at first, so it starts near ln(classes)."""
    name, settings = "first loss", spec.train
    assert settings is not None
    if not math.isfinite(loss):
        overflow = "numbers overflow in the forward pass: add batch_norm, or start with smaller weights"
        return Proof(name, False, f"{loss}", None, overflow)
    if classes is None or settings.loss.type_name != "softmax_cross_entropy":
        return Proof(name, True, f"{loss:.4f}")
    expected = math.log(classes)
    near = 0.5 * expected <= loss <= 2 * expected
    advice = None if near else "the logits start too large: check weight_init, or add batch_norm before the last layer"
    return Proof(name, near, f"{loss:.4f}, ln({classes}) = {expected:.4f}", None, advice)


def _gradients(model: Model) -> Proof:
    """Every parameter that is trained gets a finite gradient that is not all zeros."""
    name, training = "gradients", model.training
    assert training is not None
    slots = [slot for slot in model.weights.slots if slot.stop <= model.weights.trained]
    for slot in slots:
        gradient = training.gradients[0][slot.start : slot.stop]
        if not np.isfinite(gradient).all():
            advice = "its gradient overflows: lower the weights, or normalise what it reads"
            return Proof(name, False, f"{slot.key} is not finite", slot.node.name, advice)
        if not gradient.any():
            advice = "nothing that follows depends on it: look for dead activations, or a bias before batch_norm"
            return Proof(name, False, f"{slot.key} is all zeros", slot.node.name, advice)
    return Proof(name, True, f"{len(slots)} arrays, all finite and none zero")


def _learned(model: Model, plan: Plan, first: float, seconds: float) -> Proof:
    """The loss of one batch falls to a fraction, with the spec's optimizer, or with adam where that one is slow."""
    name, spec = "one batch learned", model.spec
    assert spec.train is not None
    rate = spec.train.optimizer.learning_rate
    least = spec.train.loss.least(plan.labels, model.graph.output.shape[0])
    goal = least + LEARNED * (first - least)
    loss, steps = _overfit(plan, rate, goal, seconds / 2)
    if not math.isfinite(loss) or loss > 10 * first:
        advice = f"lower the learning rate (it is {rate:g}), or add warm-up"
        return Proof(name, False, f"loss {first:.4f} to {loss:.4g}", _first_not_finite(model), advice)
    if loss <= goal:
        return Proof(name, True, f"loss {first:.4f} to {loss:.4f} in {steps} steps")
    again = Model(dataclasses.replace(spec, train=spec.train.but(optimizer=Adam())), model.graph)
    other = again.plan(plan.batch, "train", "float32")
    other.images[...], other.labels[...] = plan.images, plan.labels
    quick, more = _overfit(other, Adam().learning_rate, goal, seconds / 2)
    figure = f"loss {first:.4f} to {quick:.4f} in {more} steps of adam, to {loss:.4f} in {steps} of its own optimizer"
    if quick <= goal:
        return Proof(name, True, figure)
    return Proof(name, False, figure, _stillest(again), "look for activations that saturate or die, or a missing path")


def _overfit(plan: Plan, rate: float, goal: float, seconds: float) -> tuple[float, int]:
    """Train on the plan's batch until it is learned, hopeless, or the time is up; the last loss and the steps."""
    started, loss = time.perf_counter(), goal
    for step in range(1, MOST_STEPS + 1):
        plan.gradients()
        plan.apply(rate)  # whatever the loss is: what becomes infinite first shows where to look
        loss = float(plan.losses.mean())
        if not goal < loss < 1e6 * goal or time.perf_counter() - started > seconds:
            return loss, step
    return loss, MOST_STEPS


def _first_not_finite(model: Model) -> str | None:
    return next((slot.node.name for slot in model.weights.slots if not _finite(model.params[slot.key])), None)


def _finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


def _stillest(model: Model) -> str | None:
    """The layer whose weights moved least for their size since the start."""
    fresh = Model(model.spec, model.graph, threads=1)
    moves = {
        slot.node.name: float(np.linalg.norm(model.params[slot.key] - fresh.params[slot.key]))
        / max(float(np.linalg.norm(fresh.params[slot.key])), 1e-12)
        for slot in model.weights.slots
        if slot.name == "weight" and slot.stop <= model.weights.trained
    }
    return min(moves, key=lambda name: moves[name]) if moves else None
